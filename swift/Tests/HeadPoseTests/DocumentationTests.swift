import Foundation
import HeadPose
import XCTest

final class DocumentationTests: XCTestCase {
    /// The lines of docs/export.md. tests/test_swift.py writes the files that they read, compares
    /// what they print with Python's angles, and sees that they are the documentation's.
    func testTheLinesOfTheDocumentation() throws {
        guard let folder = ProcessInfo.processInfo.environment["HEADPOSE_TEST_FILES"] else {
            throw XCTSkip("HEADPOSE_TEST_FILES names no folder with a network and an image")
        }
        XCTAssertTrue(FileManager.default.changeCurrentDirectoryPath(folder))

        let estimator = try HeadPoseEstimator(contentsOf: URL(fileURLWithPath: "headpose.mlxfn"))
        let image = try RGBImage(ppm: URL(fileURLWithPath: "astronaut.ppm"))
        for head in try estimator(image, boxes: [Box(x: 178, y: 63, width: 90, height: 114)]) {
            print(head.pose.yaw, head.pose.pitch, head.pose.roll, head.confidence ?? .nan)
        }

        // Eleven heads are two calls of the network, and each gives what it gives alone.
        let boxes = (0..<11).map { Box(x: 150 + 3 * Float($0), y: 60, width: 90, height: 114) }
        let together = try estimator(image, boxes: boxes)
        XCTAssertEqual(together.map(\.box), boxes)
        for (head, box) in zip(together, boxes) {
            let alone = try estimator(image, boxes: [box])[0]
            XCTAssertEqual(head.pose.yaw, alone.pose.yaw, accuracy: 1e-3)
            XCTAssertEqual(head.confidence ?? -1, alone.confidence ?? -2, accuracy: 1e-4)
        }
        XCTAssertTrue(try estimator(image, boxes: []).isEmpty)
        XCTAssertThrowsError(try estimator(image, boxes: [Box(x: 1, y: 1, width: 0, height: 1)]))
    }

    func testAFileThatMLXCannotReadEndsInASentence() throws {
        guard let folder = ProcessInfo.processInfo.environment["HEADPOSE_TEST_FILES"] else {
            throw XCTSkip("HEADPOSE_TEST_FILES names no folder with a network and an image")
        }
        let whole = URL(fileURLWithPath: folder).appendingPathComponent("headpose.mlxfn")
        let short = URL(fileURLWithPath: folder).appendingPathComponent("short.mlxfn")
        try Data(contentsOf: whole).prefix(100_000).write(to: short)
        try Data(contentsOf: NetworkMetadata.beside(whole)).write(to: NetworkMetadata.beside(short))
        XCTAssertThrowsError(try HeadPoseEstimator(contentsOf: short)) { error in
            XCTAssertTrue("\(error)".contains("short.mlxfn: MLX cannot read it"), "\(error)")
        }
    }
}
