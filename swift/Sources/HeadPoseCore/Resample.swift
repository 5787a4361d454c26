/// Weights of a bilinear filter with antialiasing, in Pillow's fixed point.
///
/// Pillow computes the weights of each output pixel in double precision, normalises them, rounds
/// them to 22 bits behind the point, and sums in integers. The same steps give the same bytes.
struct Taps {
    static let bits = 22

    /// For each output pixel: the first source pixel in the image, and the weights of those from it on.
    private(set) var first: [Int] = []
    private(set) var weights: [[Int32]] = []
    /// Whether the filter changes nothing, as where the length stays the same.
    let identity: Bool

    /// - Parameters:
    ///   - source: length of the crop in pixels.
    ///   - start: where the crop begins in the image; may be negative.
    ///   - limit: length of the image; what of the crop lies outside is black.
    ///   - scaled: length that the crop is scaled to.
    ///   - first: the first pixel wanted of that length.
    ///   - count: how many are wanted.
    init(source: Int, start: Int, limit: Int, scaled: Int, first wanted: Int, count: Int) {
        identity = source == scaled
        let scale = Double(source) / Double(scaled)
        let support = max(scale, 1)
        let inverse = 1 / support
        for index in wanted..<wanted + count {
            if identity {
                let inside = start + index >= 0 && start + index < limit
                first.append(inside ? start + index : 0)
                weights.append(inside ? [1 << Taps.bits] : [])
                continue
            }
            let centre = (Double(index) + 0.5) * scale
            let low = max(Int(centre - support + 0.5), 0)
            let high = min(Int(centre + support + 0.5), source)
            var values: [Double] = []
            var sum = 0.0
            for x in 0..<max(high - low, 0) {
                let distance = abs((Double(x + low) - centre + 0.5) * inverse)
                let weight = distance < 1 ? 1 - distance : 0
                values.append(weight)
                sum += weight
            }
            if sum != 0 { values = values.map { $0 / sum } }
            // All weights are positive, so adding a half and truncating rounds them.
            let fixed = values.map { Int32(0.5 + $0 * Double(1 << Taps.bits)) }
            let from = max(start + low, 0)
            let to = min(start + high, limit)
            first.append(from < to ? from : 0)
            weights.append(from < to ? Array(fixed[from - start - low..<to - start - low]) : [])
        }
    }

    static func clip(_ sum: Int32) -> UInt8 {
        UInt8(clamping: sum >> Int32(bits))
    }
}

/// Scales an image horizontally, then vertically, with 8 bits between the two.
func resample(_ image: RGBImage, columns: Taps, rows: Taps) -> RGBImage {
    let width = columns.first.count
    let height = rows.first.count
    let half = Int32(1) << Int32(Taps.bits - 1)
    let used = rows.first.indices.filter { !rows.weights[$0].isEmpty }
    let from = used.map { rows.first[$0] }.min() ?? 0
    let to = used.map { rows.first[$0] + rows.weights[$0].count }.max() ?? 0

    // Rows `from` to `to` of the image at the new width.
    var middle = [UInt8](repeating: 0, count: (to - from) * width * 3)
    image.pixels.withUnsafeBufferPointer { pixels in
        middle.withUnsafeMutableBufferPointer { middle in
            for y in from..<to {
                for x in 0..<width {
                    var sum = (half, half, half)
                    var at = (y * image.width + columns.first[x]) * 3
                    for weight in columns.weights[x] {
                        sum.0 &+= Int32(pixels[at]) &* weight
                        sum.1 &+= Int32(pixels[at + 1]) &* weight
                        sum.2 &+= Int32(pixels[at + 2]) &* weight
                        at += 3
                    }
                    let out = ((y - from) * width + x) * 3
                    middle[out] = Taps.clip(sum.0)
                    middle[out + 1] = Taps.clip(sum.1)
                    middle[out + 2] = Taps.clip(sum.2)
                }
            }
        }
    }
    var result = [UInt8](repeating: 0, count: width * height * 3)
    let stride = width * 3
    middle.withUnsafeBufferPointer { middle in
        for y in 0..<height {
            for x in 0..<stride {
                var sum = half
                var at = (rows.first[y] - from) * stride + x
                for weight in rows.weights[y] {
                    sum &+= Int32(middle[at]) &* weight
                    at += stride
                }
                result[y * stride + x] = Taps.clip(sum)
            }
        }
    }
    return RGBImage(width: width, height: height, pixels: result)
}
