/// A box in an image: pixels from its upper left corner, y downwards.
///
/// Its sides are `Float`, as detectors give them and as Python takes them. A box in `Double` can be
/// cut one pixel beside the one that Python cuts.
public struct Box: Equatable, Sendable {
    public var xMin: Float
    public var yMin: Float
    public var xMax: Float
    public var yMax: Float

    public init(xMin: Float, yMin: Float, xMax: Float, yMax: Float) {
        self.xMin = xMin
        self.yMin = yMin
        self.xMax = xMax
        self.yMax = yMax
    }

    public init(x: Float, y: Float, width: Float, height: Float) {
        self.init(xMin: x, yMin: y, xMax: x + width, yMax: y + height)
    }

    public var area: Float { (xMax - xMin) * (yMax - yMin) }
}

/// How a crop is scaled.
public enum Resize: String, Codable, Sendable {
    /// Both sides to the same length.
    case squash
    /// The shorter side to a length, the longer one in proportion.
    case shortSide = "short_side"
}

/// What is added at the sides of a box, as shares of its width and height.
///
/// Each side sees the box that the sides before it moved, in the order x_min, y_min, x_max, y_max,
/// as in the published loaders. In JSON: four numbers in this order.
public struct Margins: Codable, Equatable, Sendable {
    public var xMin: Double
    public var yMin: Double
    public var xMax: Double
    public var yMax: Double

    public init(xMin: Double, yMin: Double, xMax: Double, yMax: Double) {
        self.xMin = xMin
        self.yMin = yMin
        self.xMax = xMax
        self.yMax = yMax
    }

    public init(from decoder: Decoder) throws {
        let values = try [Double](from: decoder)
        guard values.count == 4 else {
            throw HeadPoseError("margins are four numbers")
        }
        self.init(xMin: values[0], yMin: values[1], xMax: values[2], yMax: values[3])
    }

    public func encode(to encoder: Encoder) throws {
        try values.encode(to: encoder)
    }

    public var values: [Double] { [xMin, yMin, xMax, yMax] }

    /// x_min, y_min, x_max, y_max of a box with its margins.
    func around(_ box: Box) -> [Double] {
        var (left, top) = (Double(box.xMin), Double(box.yMin))
        var (right, bottom) = (Double(box.xMax), Double(box.yMax))
        left -= xMin * abs(right - left)
        top -= yMin * abs(bottom - top)
        right += xMax * abs(right - left)
        bottom += yMax * abs(bottom - top)
        return [left, top, right, bottom]
    }
}

/// An image in memory.
public struct RGBImage: Equatable, Sendable {
    public let width: Int
    public let height: Int
    /// Rows from the top, each pixel as red, green, blue.
    public let pixels: [UInt8]

    public init(width: Int, height: Int, pixels: [UInt8]) {
        precondition(width > 0 && height > 0 && pixels.count == width * height * 3)
        self.width = width
        self.height = height
        self.pixels = pixels
    }
}

extension RGBImage {
    /// Pillow's `Image.reduce`: the mean of each square of so many pixels, or of what an edge leaves
    /// of it.
    func reduced(_ times: Int) -> RGBImage {
        var small: [UInt8] = []
        for top in stride(from: 0, to: height, by: times) {
            for left in stride(from: 0, to: width, by: times) {
                let (bottom, right) = (min(top + times, height), min(left + times, width))
                let count = UInt32((right - left) * (bottom - top))
                let share = UInt32(4_294_967_296 / Float(256 * count))
                for channel in 0..<3 {
                    var sum = count / 2
                    for y in top..<bottom {
                        for x in left..<right {
                            sum += UInt32(pixels[(y * width + x) * 3 + channel])
                        }
                    }
                    small.append(UInt8((sum &* share) >> 24))
                }
            }
        }
        return RGBImage(
            width: (width + times - 1) / times, height: (height + times - 1) / times,
            pixels: small)
    }
}

extension NetworkMetadata.Input {
    /// How many times its shorter side a crop may be long.
    static let longest = 50
    /// Larger crops are cut out of the image at a half, a third, ....
    static let maxCropPixels = 80_000_000

    /// The network's input, cut out of an image exactly as Python cuts it.
    ///
    /// The box with its margins is truncated to whole pixels; what lies outside the image is black;
    /// the crop is scaled by a bilinear filter with antialiasing.
    ///
    /// - Parameters:
    ///   - box: of a face, or of a head.
    ///   - margins: nil for those around a detected face.
    /// - Returns: an image of `side` by `side`.
    /// - Throws: `HeadPoseError`: the box is empty or not finite, or there are no such margins.
    public func crop(_ image: RGBImage, _ box: Box, margins: Margins? = nil) throws -> RGBImage {
        let sides = [box.xMin, box.yMin, box.xMax, box.yMax]
        guard sides.allSatisfy(\.isFinite), box.xMin < box.xMax, box.yMin < box.yMax else {
            throw HeadPoseError("a box must have xMax > xMin and yMax > yMin")
        }
        guard let margins = margins ?? faceMargins else {
            throw HeadPoseError(
                "this network's margins around a face follow a rule of their own; give margins")
        }
        let outer = margins.around(box)
        // A box far outside must not make a crop of unbounded size.
        var left = Int(min(max(outer[0], Double(-image.width)), Double(2 * image.width)))
        var top = Int(min(max(outer[1], Double(-image.height)), Double(2 * image.height)))
        let right = Int(min(max(outer[2], Double(-image.width)), Double(2 * image.width)))
        let bottom = Int(min(max(outer[3], Double(-image.height)), Double(2 * image.height)))
        var width = max(right - left, 1)
        var height = max(bottom - top, 1)
        if resize == .shortSide {
            // Of a line of pixels, the middle.
            let across = max(width - Self.longest * height, 0)
            let down = max(height - Self.longest * width, 0)
            left += across / 2
            top += down / 2
            width -= across
            height -= down
        }
        var image = image
        let share = Double(width * height) / Double(Self.maxCropPixels)
        let times = Int(share.squareRoot().rounded(.up))
        if times > 1 {
            func divided(_ value: Int) -> Int {
                Int((Double(value) / Double(times)).rounded(.down))
            }
            let (end, lower) = (divided(left + width), divided(top + height))
            image = image.reduced(times)
            left = divided(left)
            top = divided(top)
            width = max(end - left, 1)
            height = max(lower - top, 1)
        }
        // As torchvision does: the longer side is truncated, the centre rounded.
        var scaled = (width: resizeTo, height: resizeTo)
        if resize == .shortSide {
            if width <= height {
                scaled.height = Int(Double(resizeTo * height) / Double(width))
            } else {
                scaled.width = Int(Double(resizeTo * width) / Double(height))
            }
        }
        func centre(_ length: Int) -> Int {
            Int((Double(length - side) / 2).rounded(.toNearestOrEven))
        }
        return resample(
            image,
            columns: Taps(
                source: width, start: left, limit: image.width,
                scaled: scaled.width, first: centre(scaled.width), count: side),
            rows: Taps(
                source: height, start: top, limit: image.height,
                scaled: scaled.height, first: centre(scaled.height), count: side))
    }
}
