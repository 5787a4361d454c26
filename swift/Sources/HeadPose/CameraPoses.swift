// Compiled on Apple's systems only: see swift/README.md.
#if canImport(AVFoundation) && canImport(Vision) && (os(macOS) || os(iOS))
    import AVFoundation
    import HeadPoseCore

    /// The pose of the largest face before the camera, smoothed.
    ///
    /// An app needs `NSCameraUsageDescription` in its Info.plist. On iOS frames are those of a
    /// device that is held upright; a Mac's are taken as they come.
    public final class CameraPoses: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate {
        private let estimator: HeadPoseEstimator
        private let handler: (Result<Head?, Error>) -> Void
        private let session = AVCaptureSession()
        private let queue = DispatchQueue(label: "mlx-headpose.camera")
        private var filter = PoseFilter()
        private var zero: ZeroPose?
        private var last: (time: Double, pose: Pose)?

        /// - Parameters:
        ///   - estimator: used on the camera's queue only.
        ///   - position: `.front` for the camera beside an iPhone's screen; else the system's
        ///     preferred one, which there is at the back.
        ///   - handler: called on that queue for each frame, with nil where there is no face.
        /// - Throws: `HeadPoseError`: there is no camera, or it may not be used.
        public init(
            estimator: HeadPoseEstimator, position: AVCaptureDevice.Position = .unspecified,
            handler: @escaping (Result<Head?, Error>) -> Void
        ) throws {
            self.estimator = estimator
            self.handler = handler
            super.init()
            let chosen =
                position == .unspecified
                ? AVCaptureDevice.default(for: .video)
                : AVCaptureDevice.default(
                    .builtInWideAngleCamera, for: .video, position: position)
            guard let camera = chosen,
                let input = try? AVCaptureDeviceInput(device: camera), session.canAddInput(input)
            else { throw HeadPoseError("there is no camera, or it may not be used") }
            session.addInput(input)
            let output = AVCaptureVideoDataOutput()
            output.videoSettings = [
                kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA
            ]
            output.alwaysDiscardsLateVideoFrames = true
            output.setSampleBufferDelegate(self, queue: queue)
            guard session.canAddOutput(output) else {
                throw HeadPoseError("the camera gives no frames")
            }
            session.addOutput(output)
            #if os(iOS)
                // The sensor lies on its side in a device that is held upright.
                if let connection = output.connection(with: .video),
                    connection.isVideoRotationAngleSupported(90)
                {
                    connection.videoRotationAngle = 90
                }
            #endif
        }

        public func start() {
            queue.async { self.session.startRunning() }
        }

        public func stop() {
            queue.async { self.session.stopRunning() }
        }

        /// Makes the last pose the one that counts as straight ahead.
        public func setZero() {
            queue.async { self.zero = self.last.map { ZeroPose($0.pose) } }
        }

        public func captureOutput(
            _ output: AVCaptureOutput, didOutput sample: CMSampleBuffer,
            from connection: AVCaptureConnection
        ) {
            guard let frame = CMSampleBufferGetImageBuffer(sample) else { return }
            let time = CMSampleBufferGetPresentationTimeStamp(sample).seconds
            handler(Result { try head(in: frame, at: time) })
        }

        private func head(in frame: CVPixelBuffer, at time: Double) throws -> Head? {
            guard let box = try FaceBoxes.find(in: frame).first,
                let found = try estimator(try CameraPoses.image(frame), boxes: [box]).first
            else { return nil }
            // After a second without a face, it may be somebody else's.
            if let last, time - last.time > 1 { filter = PoseFilter() }
            let pose = filter(found.pose, seconds: time - (last?.time ?? time))
            last = (time, pose)
            return Head(box: box, pose: zero?(pose) ?? pose, confidence: found.confidence)
        }

        private static func image(_ frame: CVPixelBuffer) throws -> RGBImage {
            CVPixelBufferLockBaseAddress(frame, .readOnly)
            defer { CVPixelBufferUnlockBaseAddress(frame, .readOnly) }
            guard let start = CVPixelBufferGetBaseAddress(frame) else {
                throw HeadPoseError("a frame of the camera has no pixels")
            }
            let (height, row) = (
                CVPixelBufferGetHeight(frame), CVPixelBufferGetBytesPerRow(frame)
            )
            return RGBImage(
                bgra: UnsafeRawBufferPointer(start: start, count: row * height),
                width: CVPixelBufferGetWidth(frame), height: height, bytesPerRow: row)
        }
    }
#endif
