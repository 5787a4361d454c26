import Foundation

extension RGBImage {
    /// Reads a binary PPM file (P6, 8 bits): the format that needs no library.
    ///
    /// - Throws: `HeadPoseError`: it is missing, damaged, or another format.
    public init(ppm url: URL) throws {
        guard let content = try? Data(contentsOf: url) else {
            throw HeadPoseError("\(url.path): cannot be read; check the path")
        }
        let bytes = [UInt8](content)
        var at = 0
        func word() -> String {
            while at < bytes.count, [9, 10, 13, 32].contains(bytes[at]) { at += 1 }
            let start = at
            while at < bytes.count, ![9, 10, 13, 32].contains(bytes[at]), at - start < 20 {
                at += 1
            }
            return String(decoding: bytes[start..<at], as: UTF8.self)
        }
        let words = (0..<4).map { _ in word() }
        at += 1  // the single white space before the pixels
        guard words[0] == "P6", words[3] == "255",
            let width = Int(words[1]), let height = Int(words[2]),
            (1...32768).contains(width), (1...32768).contains(height)
        else { throw HeadPoseError("\(url.path): not a binary PPM image of 8 bits") }
        guard bytes.count - at >= width * height * 3 else {
            throw HeadPoseError("\(url.path): the image is cut short")
        }
        self.init(width: width, height: height, pixels: Array(bytes[at..<at + width * height * 3]))
    }
}
