import XCTest

@testable import HeadPoseCore

final class FileTests: XCTestCase {
    private func function(_ form: String) throws -> Data {
        let all = try JSONDecoder().decode(
            [String: String].self, from: try Golden.file("functions.json"))
        let text = try XCTUnwrap(all[form])
        return form == "metadata" ? Data(text.utf8) : try XCTUnwrap(Data(base64Encoded: text))
    }

    func testBothFormsAreReadAndTurnedIntoEachOther() throws {
        let text = String(decoding: try function("metadata"), as: UTF8.self)
        for (form, metadata) in [("with", text), ("empty", ""), ("without", nil)] {
            let file = try FunctionFile(try function(form))
            XCTAssertEqual(file.metadata, metadata, form)
            XCTAssertEqual(file.functionCount, 1)
            XCTAssertFalse(file.shapeless)
            XCTAssertTrue(file.version.hasPrefix("0."))
            XCTAssertEqual(file.rewritten(metadata: nil), try function("without"))
            XCTAssertEqual(file.rewritten(metadata: ""), try function("empty"))
            XCTAssertEqual(file.rewritten(metadata: text), try function("with"))
        }
    }

    func testDamagedFilesAreRefused() throws {
        let whole = try function("without")
        for length in 0..<30 {
            XCTAssertThrowsError(try FunctionFile(whole.prefix(length)))
        }
        XCTAssertThrowsError(try FunctionFile(Data(repeating: 255, count: 100)))
        XCTAssertThrowsError(try FunctionFile(Data("P6\n2 1\n255\n".utf8 + [1, 2, 3, 4, 5, 6])))
        let missing = URL(fileURLWithPath: "/nowhere/net.mlxfn")
        XCTAssertThrowsError(try FunctionFile(contentsOf: missing)) { error in
            XCTAssertTrue("\(error)".contains("/nowhere/net.mlxfn"), "\(error)")
        }
    }

    func testMetadataAreThoseOfTheFileOrBesideIt() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appendingPathComponent("net.mlxfn")
        try function("without").write(to: url)
        let bare = try FunctionFile(contentsOf: url)
        XCTAssertThrowsError(try NetworkMetadata(of: bare, at: url)) { error in
            XCTAssertTrue("\(error)".contains("net.mlxfn.json"), "\(error)")
        }
        try function("metadata").write(to: folder.appendingPathComponent("net.mlxfn.json"))
        let beside = try NetworkMetadata(of: bare, at: url)
        let inside = try NetworkMetadata(of: try FunctionFile(try function("with")), at: url)
        XCTAssertEqual(beside, inside)
        XCTAssertEqual(beside.name, "tiny")
        XCTAssertEqual(beside.licence, "MIT")
        XCTAssertEqual(beside.input.side, 64)
        XCTAssertEqual(beside.input.resize, .shortSide)
        XCTAssertEqual(beside.input.headMargins.values, [0, 0, 0, 0])
        XCTAssertEqual(beside.outputs, ["pose", "output0", "confidence"])
    }

    func testACropByAnotherRuleIsNamed() throws {
        let text = String(decoding: try function("metadata"), as: UTF8.self)
        let changed = text.replacingOccurrences(of: "short_side", with: "pad")
        XCTAssertThrowsError(try NetworkMetadata(json: Data(changed.utf8))) { error in
            XCTAssertTrue("\(error)".contains("crop (pad, bilinear)"), "\(error)")
        }
    }

    func testMarginsByAnotherRuleMustBeGiven() throws {
        let text = String(decoding: try function("metadata"), as: UTF8.self)
        let changed = text.replacingOccurrences(
            of: "\"face_margins\": \\[[^\\]]*\\]", with: "\"face_margins\": null",
            options: .regularExpression)
        let input = try NetworkMetadata(json: Data(changed.utf8)).input
        XCTAssertNil(input.faceMargins)
        let image = RGBImage(width: 4, height: 4, pixels: [UInt8](repeating: 9, count: 48))
        let box = Box(x: 0, y: 0, width: 4, height: 4)
        XCTAssertThrowsError(try input.crop(image, box))
        XCTAssertEqual(try input.crop(image, box, margins: input.headMargins).width, input.side)
    }

    func testForeignMetadataAreRefused() throws {
        let text = String(decoding: try function("metadata"), as: UTF8.self)
        for (old, new) in [
            ("\"side\": 64", "\"side\": 0"), ("\"side\": 64", "\"side\": 65"),
            ("short_side", "stretch"), ("\"head_margins\": [", "\"head_margins\": [7, "),
            ("\"face_margins\"", "\"margins\""), ("\"clip\": false", "\"clip\": true"),
            ("\"bilinear\"", "\"bicubic\""), ("\"batch_sizes\": [1", "\"batch_sizes\": [-1"),
            ("\"batch_sizes\": [1]", "\"batch_sizes\": []"),
            ("\"batch_sizes\": [1]", "\"batch_sizes\": [1, 0]"),
            ("\"batch_sizes\": [1]", "\"batch_sizes\": [4097]"),
            ("[\"pose\", ", "[\"position\", "),
        ] {
            let changed = text.replacingOccurrences(of: old, with: new)
            XCTAssertNotEqual(changed, text)
            XCTAssertThrowsError(try NetworkMetadata(json: Data(changed.utf8)), new)
        }
    }
}
