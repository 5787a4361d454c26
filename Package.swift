// swift-tools-version: 5.9
// The Swift package; sources and README are in swift/.
import PackageDescription

// HEADPOSE_MLX=0 leaves out everything that needs MLX, so that nothing is fetched: the default
// where MLX Swift has no GPU. A path names a checkout of MLX Swift to build against.
#if os(Linux)
    let mlx = Context.environment["HEADPOSE_MLX"] ?? "0"
#else
    let mlx = Context.environment["HEADPOSE_MLX"] ?? ""
#endif

let package = Package(
    name: "mlx-headpose",
    platforms: [.macOS(.v14), .iOS(.v17), .visionOS(.v1)],
    products: [.library(name: "HeadPoseCore", targets: ["HeadPoseCore"])],
    targets: [
        .target(name: "HeadPoseCore", path: "swift/Sources/HeadPoseCore"),
        .testTarget(
            name: "HeadPoseCoreTests",
            dependencies: ["HeadPoseCore"],
            path: "swift/Tests/HeadPoseCoreTests",
            resources: [.copy("golden")]
        ),
    ]
)

if mlx != "0" {
    package.products += [
        .library(name: "HeadPose", targets: ["HeadPose"]),
        .executable(name: "headpose", targets: ["HeadPoseCommand"]),
    ]
    // 0.31.1 is the oldest that reads what `export.py` writes. SwiftPM takes the newest release
    // that the tool chain can build.
    package.dependencies.append(
        mlx.isEmpty
            ? .package(url: "https://github.com/ml-explore/mlx-swift", from: "0.31.1")
            : .package(name: "mlx-swift", path: mlx)
    )
    package.targets += [
        .target(
            name: "HeadPose",
            dependencies: ["HeadPoseCore", .product(name: "MLX", package: "mlx-swift")],
            path: "swift/Sources/HeadPose"
        ),
        .executableTarget(
            name: "HeadPoseCommand",
            dependencies: ["HeadPose"],
            path: "swift/Sources/HeadPoseCommand"
        ),
        .testTarget(
            name: "HeadPoseTests",
            dependencies: ["HeadPose"],
            path: "swift/Tests/HeadPoseTests"
        ),
    ]
}
