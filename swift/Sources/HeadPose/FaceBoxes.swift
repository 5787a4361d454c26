// Compiled on Apple's systems only: see swift/README.md.
#if canImport(Vision)
    import CoreVideo
    import HeadPoseCore
    import Vision

    /// Boxes of faces by Apple's Vision.
    ///
    /// The margins of the networks were calibrated on the boxes of another detector, YuNet. Nobody
    /// has measured how Vision's boxes differ, so give `HeadPoseEstimator` margins of your own if
    /// the angles of heads that look into the camera are not near 0.
    public enum FaceBoxes {
        /// Boxes in an upright image, the largest first.
        ///
        /// - Throws: `HeadPoseError` or an error of Vision.
        public static func find(in image: RGBImage) throws -> [Box] {
            guard let cgImage = image.cgImage else {
                throw HeadPoseError("the image cannot be handed to Vision")
            }
            return try find(
                VNImageRequestHandler(cgImage: cgImage, orientation: .up),
                size: (image.width, image.height))
        }

        /// Boxes in a frame of a camera, the largest first.
        public static func find(in frame: CVPixelBuffer) throws -> [Box] {
            try find(
                VNImageRequestHandler(cvPixelBuffer: frame, orientation: .up),
                size: (CVPixelBufferGetWidth(frame), CVPixelBufferGetHeight(frame)))
        }

        private static func find(
            _ handler: VNImageRequestHandler, size: (width: Int, height: Int)
        ) throws -> [Box] {
            let request = VNDetectFaceRectanglesRequest()
            try handler.perform([request])
            let boxes = (request.results ?? []).map { face in
                let box = face.boundingBox
                return Box(
                    fromBottomLeft: Double(box.minX), Double(box.minY), Double(box.width),
                    Double(box.height), in: size)
            }
            return boxes.sorted { $0.area > $1.area }
        }
    }
#endif
