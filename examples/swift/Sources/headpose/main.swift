// Yaw, pitch and roll of one cut-out face, by MLX Swift.
//
//   headpose network.mlxfn face.png
//
// NOT COMPILED by this project's tests, which run on Linux: see examples/README.md.

import CoreGraphics
import Foundation
import ImageIO
import MLX

/// A picture scaled to a square, as (1, side, side, 3) bytes, red, green, blue.
func pixels(of path: String, side: Int) -> MLXArray? {
    guard
        let source = CGImageSourceCreateWithURL(URL(fileURLWithPath: path) as CFURL, nil),
        let image = CGImageSourceCreateImageAtIndex(source, 0, nil),
        let space = CGColorSpace(name: CGColorSpace.sRGB)
    else { return nil }
    var rgba = [UInt8](repeating: 0, count: side * side * 4)
    let drawn = rgba.withUnsafeMutableBytes { buffer -> Bool in
        guard
            let context = CGContext(
                data: buffer.baseAddress, width: side, height: side, bitsPerComponent: 8,
                bytesPerRow: side * 4, space: space,
                bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
        else { return false }
        context.interpolationQuality = .high
        context.draw(image, in: CGRect(x: 0, y: 0, width: side, height: side))
        return true
    }
    return drawn ? MLXArray(rgba, [1, side, side, 4])[0..., 0..., 0..., ..<3] : nil
}

let arguments = CommandLine.arguments
guard arguments.count == 3 else {
    print("usage: headpose network.mlxfn face.png")
    exit(2)
}
let network = try importFunction(from: URL(fileURLWithPath: arguments[1]))
// The side of the network's input: `export.py` prints it and the file's metadata holds it.
guard let image = pixels(of: arguments[2], side: 224) else {
    print("error: \(arguments[2]): not a readable picture")
    exit(2)
}
// The first output is (1, 3) degrees; the rest are probabilities of the bins.
let pose = try network(image)[0].asArray(Float.self)
print("yaw \(pose[0]) pitch \(pose[1]) roll \(pose[2])")
