import Foundation
@_exported import HeadPoseCore
import MLX

/// One head of an image.
public struct Head: Equatable, Sendable {
    public let box: Box
    public let pose: Pose
    /// In 0...1, higher where the network is surer; nil where it cannot tell.
    public let confidence: Double?
}

/// Estimates the pose of heads with a network that `export.py --format mlxfn` wrote.
///
/// Use one estimator from one thread at a time.
public final class HeadPoseEstimator {
    public let metadata: NetworkMetadata
    private let function: ImportedFunction
    private let path: String

    /// Loads a network: a `.mlxfn` file, with its `.mlxfn.json` beside it.
    ///
    /// - Throws: `HeadPoseError`: a file is missing or damaged, or this MLX cannot read it.
    public init(contentsOf url: URL) throws {
        let file = try FunctionFile(contentsOf: url)
        metadata = try NetworkMetadata(of: file, at: url)
        function = try HeadPoseEstimator.load(file, at: url)
        path = url.path
    }

    /// The function, in the form that this MLX reads.
    ///
    /// MLX Swift cannot be asked for MLX's version, so the forms are tried: first that without
    /// metadata, which all releases up to 0.31.6 read.
    private static func load(_ file: FunctionFile, at url: URL) throws -> ImportedFunction {
        var reasons: [String] = []
        for metadata in [nil, file.metadata ?? ""] {
            do {
                if metadata == file.metadata { return try importFunction(from: url) }
                let copy = FileManager.default.temporaryDirectory.appendingPathComponent(
                    "\(UUID().uuidString).mlxfn")
                // MLX keeps the file open; its name is not needed after the import.
                defer { try? FileManager.default.removeItem(at: copy) }
                try file.rewritten(metadata: metadata).write(to: copy)
                return try importFunction(from: copy)
            } catch {
                reasons.append("\(metadata == nil ? "without" : "with") metadata: \(error)")
            }
        }
        throw HeadPoseError(
            "\(url.path): MLX cannot read it, \(reasons.joined(separator: "; ")); export it again, "
                + "with --device cpu for a machine without a GPU")
    }

    /// The poses of heads, by one network call for up to eight of them.
    ///
    /// - Parameters:
    ///   - image: upright.
    ///   - boxes: of faces, as YuNet finds them, unless `margins` says otherwise.
    ///   - margins: added around the boxes; nil for those around a detected face, and
    ///     `metadata.input.headMargins` for boxes of whole heads.
    /// - Returns: one head for each box, in their order.
    /// - Throws: `HeadPoseError`: a box is empty, or the function does not take the input.
    public func callAsFunction(
        _ image: RGBImage, boxes: [Box], margins: Margins? = nil
    ) throws -> [Head] {
        let crops = try boxes.map { try metadata.input.crop(image, $0, margins: margins).pixels }
        var heads: [Head] = []
        while heads.count < boxes.count {
            let left = boxes.count - heads.count
            let sizes = metadata.batchSizes.sorted()
            guard let size = sizes.last(where: { $0 <= left }) ?? sizes.first else {
                throw HeadPoseError("\(path): takes no number of faces; export it again")
            }
            // Where no size is small enough, the last crop fills up.
            let chosen = (0..<size).map { crops[min(heads.count + $0, crops.count - 1)] }
            heads += try run(chosen, Array(boxes[heads.count..<heads.count + min(size, left)]))
        }
        return heads
    }

    private func run(_ crops: [[UInt8]], _ boxes: [Box]) throws -> [Head] {
        let side = metadata.input.side
        let outputs: [MLXArray]
        do {
            outputs = try function(MLXArray(crops.flatMap { $0 }, [crops.count, side, side, 3]))
        } catch {
            throw HeadPoseError("\(path): cannot be run: \(error)")
        }
        guard outputs.count == metadata.outputs.count, outputs[0].shape == [crops.count, 3] else {
            throw HeadPoseError("\(path): returns something else than its metadata say")
        }
        let index = metadata.outputs.firstIndex(of: "confidence")
        if let index { eval(outputs[0], outputs[index]) }
        let angles = outputs[0].asArray(Float.self)
        let confidences = index.map { outputs[$0].asArray(Float.self) }
        return boxes.indices.map { i in
            Head(
                box: boxes[i],
                pose: Pose(
                    yaw: Double(angles[3 * i]), pitch: Double(angles[3 * i + 1]),
                    roll: Double(angles[3 * i + 2])),
                confidence: confidences.map { Double($0[i]) })
        }
    }
}
