import XCTest

@testable import HeadPoseCore

final class CropTests: XCTestCase {
    func testCropsAreThoseOfPythonToTheByte() throws {
        let golden = try Golden.read()
        let images = try golden.images()
        var expected = [UInt8](try Golden.file("crops.bin"))[...]
        for (index, one) in golden.crops.enumerated() {
            let box = Box(
                xMin: one.box[0], yMin: one.box[1], xMax: one.box[2], yMax: one.box[3])
            let crop = try one.input.crop(images[one.image], box)
            let count = one.input.side * one.input.side * 3
            XCTAssertEqual(crop.width, one.input.side)
            XCTAssertEqual(crop.pixels, Array(expected.prefix(count)), "crop \(index): \(one)")
            expected = expected.dropFirst(count)
        }
        XCTAssertGreaterThan(golden.crops.count, 40)
        XCTAssertTrue(expected.isEmpty)
    }

    func testLargeImagesAreReducedAsPillowDoes() {
        let values: [UInt8] = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 255]
        let image = RGBImage(width: 4, height: 3, pixels: values.flatMap { [$0, 0, 255] })
        let small = image.reduced(2)
        XCTAssertEqual([small.width, small.height], [2, 2])
        XCTAssertEqual(stride(from: 0, to: 12, by: 3).map { small.pixels[$0] }, [25, 45, 85, 178])
        XCTAssertEqual(stride(from: 2, to: 12, by: 3).map { small.pixels[$0] }, [255, 255, 255, 255])
    }

    func testMarginsOfAHeadAreNotThoseOfAFace() throws {
        let input = NetworkMetadata.Input(
            side: 4, resize: .squash, resizeTo: 4,
            faceMargins: Margins(xMin: 1, yMin: 1, xMax: 1, yMax: 1),
            headMargins: Margins(xMin: 0, yMin: 0, xMax: 0, yMax: 0))
        let image = RGBImage(width: 4, height: 4, pixels: [UInt8](repeating: 9, count: 48))
        let box = Box(x: 0, y: 0, width: 4, height: 4)
        XCTAssertEqual(try input.crop(image, box, margins: input.headMargins), image)
        XCTAssertNotEqual(try input.crop(image, box), image)
    }

    func testEmptyAndEndlessBoxesAreRefused() throws {
        let golden = try Golden.read()
        let image = try golden.images()[0]
        for box in [
            Box(xMin: 3, yMin: 3, xMax: 3, yMax: 9), Box(xMin: 9, yMin: 3, xMax: 3, yMax: 9),
            Box(xMin: .nan, yMin: 0, xMax: 1, yMax: 1), Box(x: 0, y: 0, width: .infinity, height: 1),
        ] {
            XCTAssertThrowsError(try golden.crops[0].input.crop(image, box))
        }
    }

    func testPixmapsAreRead() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(
            "\(UUID().uuidString).ppm")
        defer { try? FileManager.default.removeItem(at: url) }
        try Data("P6\n2 1\n255\n".utf8 + [1, 2, 3, 10, 32, 13]).write(to: url)
        XCTAssertEqual(
            try RGBImage(ppm: url), RGBImage(width: 2, height: 1, pixels: [1, 2, 3, 10, 32, 13]))
        for damaged in ["", "P6", "P5\n1 1\n255\nabc", "P6\n2 2\n255\nabc", "P6\n-1 1\n255\nabc"] {
            try Data(damaged.utf8).write(to: url)
            XCTAssertThrowsError(try RGBImage(ppm: url), damaged)
        }
    }
}
