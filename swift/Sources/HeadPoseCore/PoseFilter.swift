/// The One-Euro filter of a pose, on the rotations: a head at rest does not jitter, and a turning
/// head does not lag.
///
/// Casiez, Roussel & Vogel, "1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
/// Interactive Systems" (CHI 2012), with the rotation vector between the last filtered and the new
/// rotation in place of the difference of values.
public struct PoseFilter: Sendable {
    /// Cutoff in Hz at rest; lower means less jitter.
    public var minCutoff: Double
    /// Hz that the cutoff rises per degree and second of speed; higher means less lag.
    public var beta: Double

    // Cutoff in Hz of the low-pass filter on the speed, as in the paper.
    private static let speedCutoff = 1.0
    private var rotation: Rotation?
    private var speed = [0.0, 0.0, 0.0]

    public init(minCutoff: Double = 0.7, beta: Double = 0.04) {
        self.minCutoff = minCutoff
        self.beta = beta
    }

    /// The next pose, filtered.
    ///
    /// - Parameters:
    ///   - pose: of this frame.
    ///   - seconds: since the frame before.
    public mutating func callAsFunction(_ pose: Pose, seconds: Double) -> Pose {
        let new = Rotation(pose)
        guard let last = rotation else {
            rotation = new
            return pose
        }
        let seconds = max(seconds, 1e-6)
        let step = (last.inverse * new).vector.map { $0 * 180 / .pi }
        let weight = PoseFilter.weight(PoseFilter.speedCutoff, seconds)
        speed = zip(speed, step).map { $0 + weight * ($1 / seconds - $0) }
        let length = speed.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let share = PoseFilter.weight(minCutoff + beta * length, seconds)
        let filtered = last * Rotation(vector: step.map { $0 * share * .pi / 180 })
        rotation = filtered
        return filtered.pose(near: pose)
    }

    /// Weight of a new sample in a low-pass filter of `cutoff` Hz (equations 3 and 4).
    private static func weight(_ cutoff: Double, _ seconds: Double) -> Double {
        let rate = 2 * Double.pi * cutoff * seconds
        return rate / (rate + 1)
    }
}

/// A direction that counts as straight ahead.
///
/// Later poses are relative to it as rotations, as if the camera stood where the person looked:
/// the rotation that leads from the reference to the pose, D₀⁻¹ · D, not a difference of angles.
public struct ZeroPose: Equatable, Sendable {
    private let reference: Rotation

    public init(_ reference: Pose) {
        self.reference = Rotation(reference)
    }

    /// The zero of several poses, as of one second: the mean of their rotations.
    ///
    /// - Throws: `HeadPoseError`: there are none.
    public init(mean poses: [Pose]) throws {
        guard let first = poses.first else {
            throw HeadPoseError("a zero needs at least one pose")
        }
        reference = Rotation.mean(poses.map(Rotation.init), near: Rotation(first))
    }

    /// A pose seen from the reference.
    public func callAsFunction(_ pose: Pose) -> Pose {
        (reference.inverse * Rotation(pose)).pose(fullYaw: true)
    }
}
