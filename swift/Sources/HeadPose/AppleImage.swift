// Compiled on Apple's systems only: see swift/README.md.
#if canImport(CoreGraphics) && canImport(ImageIO)
    import CoreGraphics
    import Foundation
    import HeadPoseCore
    import ImageIO

    extension RGBImage {
        /// Reads an image file: upright by its EXIF orientation, transparency shown on white.
        ///
        /// - Throws: `HeadPoseError`: it is missing or not an image.
        public init(contentsOf url: URL) throws {
            guard let source = CGImageSourceCreateWithURL(url as CFURL, nil),
                let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
            else { throw HeadPoseError("\(url.path): not a readable image") }
            let properties =
                CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any] ?? [:]
            let orientation = properties[kCGImagePropertyOrientation] as? Int ?? 1
            do {
                self = try RGBImage(cgImage: image).upright(orientation: orientation)
            } catch let error as HeadPoseError {
                throw HeadPoseError("\(url.path): \(error)")
            }
        }

        /// The pixels of an image as they are stored, without a conversion of colours: Python reads
        /// them so too.
        ///
        /// - Throws: `HeadPoseError`: its pixels cannot be had.
        public init(cgImage image: CGImage) throws {
            let (width, height) = (image.width, image.height)
            var space = CGColorSpace(name: CGColorSpace.sRGB)
            if let own = image.colorSpace, own.model == .rgb, own.supportsOutput { space = own }
            guard width > 0, height > 0, let space,
                let context = CGContext(
                    data: nil, width: width, height: height, bitsPerComponent: 8,
                    bytesPerRow: 4 * width, space: space,
                    bitmapInfo: CGImageAlphaInfo.premultipliedLast.rawValue)
            else { throw HeadPoseError("its pixels cannot be read") }
            context.interpolationQuality = .none
            context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
            guard let data = context.data else { throw HeadPoseError("its pixels cannot be read") }
            self.init(
                premultiplied: UnsafeRawBufferPointer(
                    start: data, count: context.bytesPerRow * height),
                width: width, height: height, bytesPerRow: context.bytesPerRow)
        }

        /// The image for Apple's frameworks.
        public var cgImage: CGImage? {
            guard let provider = CGDataProvider(data: Data(pixels) as CFData),
                let space = CGColorSpace(name: CGColorSpace.sRGB)
            else { return nil }
            return CGImage(
                width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 24,
                bytesPerRow: 3 * width, space: space,
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue),
                provider: provider, decode: nil, shouldInterpolate: false, intent: .defaultIntent)
        }
    }
#endif
