// swift-tools-version: 5.10
import PackageDescription

let package = Package(
    name: "headpose",
    platforms: [.macOS(.v14), .iOS(.v17)],
    dependencies: [
        .package(url: "https://github.com/ml-explore/mlx-swift", from: "0.25.0")
    ],
    targets: [
        .executableTarget(
            name: "headpose",
            dependencies: [.product(name: "MLX", package: "mlx-swift")]
        )
    ]
)
