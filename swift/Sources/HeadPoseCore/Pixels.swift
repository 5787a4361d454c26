extension RGBImage {
    /// Colours multiplied with their opacity, shown on white.
    ///
    /// - Parameters:
    ///   - rgba: red, green, blue, opacity.
    ///   - bytesPerRow: nil where no bytes lie between the rows.
    public init(
        premultiplied rgba: UnsafeRawBufferPointer, width: Int, height: Int, bytesPerRow: Int? = nil
    ) {
        self.init(rgba, width, height, bytesPerRow ?? 4 * width) { at in
            let white = 255 - Int(rgba[at + 3])
            func shown(_ value: UInt8) -> UInt8 { UInt8(min(Int(value) + white, 255)) }
            return (shown(rgba[at]), shown(rgba[at + 1]), shown(rgba[at + 2]))
        }
    }

    /// A frame of a camera: blue, green, red and a byte that says nothing.
    public init(bgra: UnsafeRawBufferPointer, width: Int, height: Int, bytesPerRow: Int) {
        self.init(bgra, width, height, bytesPerRow) { at in
            (bgra[at + 2], bgra[at + 1], bgra[at])
        }
    }

    /// - Parameter colour: red, green and blue of the pixel that begins at an offset.
    private init(
        _ bytes: UnsafeRawBufferPointer, _ width: Int, _ height: Int, _ bytesPerRow: Int,
        _ colour: (Int) -> (UInt8, UInt8, UInt8)
    ) {
        precondition(bytesPerRow >= 4 * width)
        precondition(bytes.count >= bytesPerRow * (height - 1) + 4 * width)
        var pixels = [UInt8](repeating: 0, count: width * height * 3)
        var out = 0
        for y in 0..<height {
            for x in 0..<width {
                (pixels[out], pixels[out + 1], pixels[out + 2]) = colour(y * bytesPerRow + 4 * x)
                out += 3
            }
        }
        self.init(width: width, height: height, pixels: pixels)
    }

    /// The image as its camera was held, by the orientation in its EXIF data.
    ///
    /// - Parameter orientation: 1 to 8; others count as 1.
    public func upright(orientation: Int) -> RGBImage {
        guard (2...8).contains(orientation) else { return self }
        let turned = orientation >= 5
        let (newWidth, newHeight) = turned ? (height, width) : (width, height)
        var result = [UInt8](repeating: 0, count: pixels.count)
        for y in 0..<newHeight {
            for x in 0..<newWidth {
                let (right, bottom) = (newWidth - 1 - x, newHeight - 1 - y)
                let (fromX, fromY): (Int, Int)
                switch orientation {
                case 2: (fromX, fromY) = (right, y)
                case 3: (fromX, fromY) = (right, bottom)
                case 4: (fromX, fromY) = (x, bottom)
                case 5: (fromX, fromY) = (y, x)
                case 6: (fromX, fromY) = (y, right)
                case 7: (fromX, fromY) = (bottom, right)
                default: (fromX, fromY) = (bottom, x)
                }
                let source = (fromY * width + fromX) * 3
                let target = (y * newWidth + x) * 3
                for channel in 0..<3 { result[target + channel] = pixels[source + channel] }
            }
        }
        return RGBImage(width: newWidth, height: newHeight, pixels: result)
    }
}

extension Box {
    /// A box as Vision gives it: shares of the image, y from the bottom upwards.
    public init(
        fromBottomLeft x: Double, _ y: Double, _ width: Double, _ height: Double,
        in image: (width: Int, height: Int)
    ) {
        self.init(
            xMin: Float(x * Double(image.width)),
            yMin: Float((1 - y - height) * Double(image.height)),
            xMax: Float((x + width) * Double(image.width)),
            yMax: Float((1 - y) * Double(image.height)))
    }
}
