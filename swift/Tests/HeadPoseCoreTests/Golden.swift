import Foundation
import XCTest

@testable import HeadPoseCore

/// What Python wrote: see ../write_golden.py.
struct Golden: Decodable {
    struct Crop: Decodable {
        let image: Int
        let box: [Float]
        let input: NetworkMetadata.Input
    }
    struct OneRotation: Decodable {
        let pose: [Double]
        let matrix: [[Double]]
        let narrow: [Double]
        let full: [Double]
        let vector: [Double]
        let geodesic: Double
    }
    struct Filter: Decodable {
        let poses: [[Double]]
        let seconds: [Double]
        let filtered: [[Double]]
    }
    struct Zero: Decodable {
        let reference: [[Double]]
        let poses: [[Double]]
        let directions: [[Double]]
        let relative: [[[Double]]]
    }
    struct Pixels: Decodable {
        let stored: [UInt8]
        let upright: [String: [UInt8]]
        let rgba: [UInt8]
        let onWhite: [UInt8]

        enum CodingKeys: String, CodingKey {
            case stored, upright, rgba
            case onWhite = "on_white"
        }
    }

    let sizes: [[Int]]
    let crops: [Crop]
    let rotations: [OneRotation]
    let filter: Filter
    let zero: Zero
    let pixels: Pixels

    static func file(_ name: String) throws -> Data {
        let folder = try XCTUnwrap(Bundle.module.url(forResource: "golden", withExtension: nil))
        return try Data(contentsOf: folder.appendingPathComponent(name))
    }

    static func read() throws -> Golden {
        try JSONDecoder().decode(Golden.self, from: try file("golden.json"))
    }

    func images() throws -> [RGBImage] {
        var bytes = [UInt8](try Golden.file("images.bin"))[...]
        return sizes.map { size in
            let count = size[0] * size[1] * 3
            defer { bytes = bytes.dropFirst(count) }
            return RGBImage(width: size[0], height: size[1], pixels: Array(bytes.prefix(count)))
        }
    }
}

extension Pose {
    init(_ values: [Double]) {
        self.init(yaw: values[0], pitch: values[1], roll: values[2])
    }
}

/// Fails where two lists of numbers differ.
func assertClose(
    _ found: [Double], _ expected: [Double], within tolerance: Double, _ what: String = "",
    file: StaticString = #filePath, line: UInt = #line
) {
    XCTAssertEqual(found.count, expected.count, what, file: file, line: line)
    for (a, b) in zip(found, expected) {
        XCTAssertEqual(a, b, accuracy: tolerance, what, file: file, line: line)
    }
}

/// Fails where two poses are not the same angles.
func assertClose(
    _ found: Pose, _ expected: [Double], within tolerance: Double, _ what: String = "",
    file: StaticString = #filePath, line: UInt = #line
) {
    let differences = zip([found.yaw, found.pitch, found.roll], expected).map { wrap($0 - $1) }
    assertClose(differences, [0, 0, 0], within: tolerance, what, file: file, line: line)
}
