import Foundation

/// The header of a `.mlxfn` file, in either of its two forms.
///
/// MLX 0.32.1 put a text between the header and the functions and left no mark of it in the file.
/// Readers before it, such as MLX Swift up to 0.31.6, cannot read a file that has the text; later
/// ones cannot read one without it. `rewritten` gives the same functions in the other form.
public struct FunctionFile: Sendable {
    /// Version of the MLX that wrote the file.
    public let version: String
    /// How many traces it holds: one for each shape of input.
    public let functionCount: Int
    /// Whether the functions take inputs of other shapes.
    public let shapeless: Bool
    /// The text of MLX 0.32.1 and later; nil in the older form.
    public let metadata: String?

    private let content: Data
    private let metadataStart: Int
    private let functionsStart: Int

    /// Reads the header of a file; the rest is mapped, not read.
    ///
    /// - Throws: `HeadPoseError`: the file is missing or is no `.mlxfn` file.
    public init(contentsOf url: URL) throws {
        let content: Data
        do {
            content = try Data(contentsOf: url, options: .mappedIfSafe)
        } catch {
            throw HeadPoseError("\(url.path): cannot be read; check the path")
        }
        do {
            try self.init(content)
        } catch let error as HeadPoseError {
            throw HeadPoseError("\(url.path): \(error)")
        }
    }

    /// Reads the header of a file's content.
    ///
    /// - Throws: `HeadPoseError`: it is none of a `.mlxfn` file.
    public init(_ content: Data) throws {
        var reader = ByteReader(content)
        let version = try reader.text(limit: 64)
        let count = try reader.int32()
        let shapeless = try reader.bool()
        guard version.first?.isNumber == true, count >= 0 else { throw ByteReader.unreadable }
        self.version = version
        functionCount = count
        self.shapeless = shapeless
        self.content = content
        metadataStart = reader.offset
        (metadata, functionsStart) = try FunctionFile.metadata(reader)
    }

    /// The metadata that stand here, and where the functions begin.
    ///
    /// The first function begins with the number of its keywords, none in our files, and the number
    /// of its inputs, at least one.
    private static func metadata(_ start: ByteReader) throws -> (String?, Int) {
        var reader = start
        if try reader.int64() == 0 {
            let empty = try reader.int64() == 0
            return empty ? ("", start.offset + 8) : (nil, start.offset)
        }
        reader = start
        guard let text = try? reader.text(),
            (try? JSONSerialization.jsonObject(with: Data(text.utf8))) != nil
        else { return (nil, start.offset) }
        return (text, reader.offset)
    }

    /// The same functions without the text (nil), or with one.
    public func rewritten(metadata: String?) -> Data {
        var result = Data(content.prefix(metadataStart))
        if let metadata {
            let text = Data(metadata.utf8)
            withUnsafeBytes(of: UInt64(text.count).littleEndian) { result.append(contentsOf: $0) }
            result.append(text)
        }
        result.append(content.dropFirst(functionsStart))
        return result
    }
}

/// Little-endian numbers and texts, one after another.
struct ByteReader {
    static let unreadable = HeadPoseError("not a .mlxfn file, or cut short")

    private let content: Data
    private(set) var offset = 0

    init(_ content: Data) {
        self.content = content
    }

    mutating func bytes(_ count: Int) throws -> Data {
        guard count >= 0, count <= content.count - offset else { throw ByteReader.unreadable }
        let start = content.startIndex + offset
        offset += count
        return content[start..<start + count]
    }

    mutating func int64() throws -> Int {
        let value = try bytes(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard let small = Int(exactly: value) else { throw ByteReader.unreadable }
        return small
    }

    mutating func int32() throws -> Int {
        let value = try bytes(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        return Int(Int32(bitPattern: value))
    }

    mutating func bool() throws -> Bool {
        let value = try bytes(1).first
        guard value == 0 || value == 1 else { throw ByteReader.unreadable }
        return value == 1
    }

    mutating func text(limit: Int = .max) throws -> String {
        let count = try int64()
        guard count <= limit, let text = String(data: try bytes(count), encoding: .utf8) else {
            throw ByteReader.unreadable
        }
        return text
    }
}
