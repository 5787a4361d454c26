import XCTest

@testable import HeadPoseCore

final class PixelTests: XCTestCase {
    func testImagesAreTurnedUprightAsInPython() throws {
        let golden = try Golden.read().pixels
        let stored = RGBImage(width: 3, height: 2, pixels: golden.stored)
        XCTAssertEqual(golden.upright.count, 8)
        for (orientation, pixels) in golden.upright {
            let turned = try XCTUnwrap(Int(orientation)) >= 5
            let expected = RGBImage(
                width: turned ? 2 : 3, height: turned ? 3 : 2, pixels: pixels)
            XCTAssertEqual(stored.upright(orientation: Int(orientation)!), expected, orientation)
        }
        XCTAssertEqual(stored.upright(orientation: 0), stored)
        XCTAssertEqual(stored.upright(orientation: 9), stored)
    }

    func testTransparencyIsShownOnWhite() throws {
        let golden = try Golden.read().pixels
        // As CoreGraphics stores it: colours times opacity.
        var stored = golden.rgba
        for at in stride(from: 0, to: stored.count, by: 4) {
            for channel in at..<at + 3 {
                let product = Double(stored[channel]) * Double(stored[at + 3]) / 255
                stored[channel] = UInt8(product.rounded())
            }
        }
        let shown = stored.withUnsafeBytes {
            RGBImage(premultiplied: $0, width: stored.count / 4, height: 1)
        }
        for (found, expected) in zip(shown.pixels, golden.onWhite) {
            XCTAssertLessThanOrEqual(abs(Int(found) - Int(expected)), 1)
        }
        XCTAssertEqual(shown.pixels.count, golden.onWhite.count)
    }

    func testFramesOfACameraMayHaveBytesBetweenTheirRows() {
        let bytes: [UInt8] = [
            1, 2, 3, 0, 4, 5, 6, 0, 99, 99, 99, 99,
            7, 8, 9, 0, 10, 11, 12, 0,
        ]
        let image = bytes.withUnsafeBytes {
            RGBImage(bgra: $0, width: 2, height: 2, bytesPerRow: 12)
        }
        XCTAssertEqual(image.pixels, [3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10])
    }

    func testBoxesOfVisionBeginAtTheBottom() {
        let box = Box(fromBottomLeft: 0.25, 0.5, 0.5, 0.25, in: (width: 200, height: 100))
        XCTAssertEqual(box, Box(xMin: 50, yMin: 25, xMax: 150, yMax: 50))
    }
}
