import Foundation

/// What an exported network says of itself: how it is fed and what it answers.
///
/// `export.py` writes it into the file, where the file's form has room for it, and as JSON beside
/// it: `net.mlxfn.json` for `net.mlxfn`.
public struct NetworkMetadata: Codable, Equatable, Sendable {
    /// How a face becomes the network's input.
    public struct Input: Codable, Equatable, Sendable {
        /// Side of the square input in pixels.
        public let side: Int
        public let resize: Resize
        /// Length that the crop is scaled to; its central square of `side` is the input.
        public let resizeTo: Int
        /// Margins of the crop around a detected face; nil where they follow a rule of their own.
        public let faceMargins: Margins?
        /// Margins of the crop around a box of the whole head.
        public let headMargins: Margins

        enum CodingKeys: String, CodingKey {
            case side, resize, filter, clip
            case resizeTo = "resize_to"
            case faceMargins = "face_margins"
            case headMargins = "head_margins"
        }

        public init(
            side: Int, resize: Resize, resizeTo: Int, faceMargins: Margins?, headMargins: Margins
        ) {
            self.side = side
            self.resize = resize
            self.resizeTo = resizeTo
            self.faceMargins = faceMargins
            self.headMargins = headMargins
        }

        /// - Throws: `HeadPoseError`: the crop follows a rule that only Python has.
        public init(from decoder: Decoder) throws {
            let values = try decoder.container(keyedBy: CodingKeys.self)
            let rule = try values.decode(String.self, forKey: .resize)
            // Files of versions before 2 say nothing of these two.
            let filter = try values.decodeIfPresent(String.self, forKey: .filter) ?? "bilinear"
            let clip = try values.decodeIfPresent(Bool.self, forKey: .clip) ?? false
            guard let resize = Resize(rawValue: rule), filter == "bilinear", !clip else {
                throw HeadPoseError(
                    "its network's crop (\(rule), \(filter)\(clip ? ", clipped" : "")) is cut by "
                        + "mlx-headpose in Python only")
            }
            self.init(
                side: try values.decode(Int.self, forKey: .side), resize: resize,
                resizeTo: try values.decode(Int.self, forKey: .resizeTo),
                faceMargins: try values.decode(Margins?.self, forKey: .faceMargins),
                headMargins: try values.decode(Margins.self, forKey: .headMargins))
        }

        public func encode(to encoder: Encoder) throws {
            var values = encoder.container(keyedBy: CodingKeys.self)
            try values.encode(side, forKey: .side)
            try values.encode(resize, forKey: .resize)
            try values.encode(resizeTo, forKey: .resizeTo)
            try values.encode(faceMargins, forKey: .faceMargins)
            try values.encode(headMargins, forKey: .headMargins)
        }
    }

    public let format: String
    public let name: String
    public let version: String
    public let licence: String
    public let signs: String
    public let input: Input
    /// Names of what the function returns, in order: "pose", the head's own, "confidence".
    public let outputs: [String]
    /// The only numbers of faces that the function takes at once.
    public let batchSizes: [Int]

    enum CodingKeys: String, CodingKey {
        case format, name, version, licence, signs, input, outputs
        case batchSizes = "batch_sizes"
    }

    /// Reads JSON.
    ///
    /// - Throws: `HeadPoseError`: it is not what `export.py` writes.
    public init(json: Data) throws {
        let read: NetworkMetadata
        do {
            read = try JSONDecoder().decode(NetworkMetadata.self, from: json)
        } catch let error as HeadPoseError {
            throw error
        } catch {
            throw HeadPoseError(
                "its metadata do not say how images are fed; export a network that reads images")
        }
        let input = read.input
        guard input.side >= 1, input.resizeTo >= input.side, input.resizeTo <= 8192,
            ((input.faceMargins?.values ?? []) + input.headMargins.values).allSatisfy(\.isFinite)
        else { throw HeadPoseError("its metadata name an impossible input size or margin") }
        guard read.outputs.first == "pose", !read.batchSizes.isEmpty,
            read.batchSizes.allSatisfy({ (1...4096).contains($0) })
        else { throw HeadPoseError("its metadata name no pose or an impossible number of faces") }
        self = read
    }

    /// The metadata of a `.mlxfn` file: its own, or those beside it.
    ///
    /// - Throws: `HeadPoseError`: there are none.
    public init(of file: FunctionFile, at url: URL) throws {
        do {
            if let text = file.metadata, !text.isEmpty {
                self = try NetworkMetadata(json: Data(text.utf8))
                return
            }
            guard let json = try? Data(contentsOf: NetworkMetadata.beside(url)) else {
                throw HeadPoseError(
                    "has no metadata and no \(url.lastPathComponent).json beside it; "
                        + "copy both files that export.py wrote")
            }
            self = try NetworkMetadata(json: json)
        } catch let error as HeadPoseError {
            throw HeadPoseError("\(url.path): \(error)")
        }
    }

    /// Where the JSON of a file is looked for.
    public static func beside(_ url: URL) -> URL {
        url.deletingLastPathComponent().appendingPathComponent(url.lastPathComponent + ".json")
    }
}
