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

/// A direction that poses are relative to.
///
/// Later poses are relative to it as rotations, T · D₀⁻¹ · D, as if the camera stood where the
/// direction says: D₀ is the rotation while the person looked there, T that of the angles which the
/// direction stands for. It is not a difference of angles.
public struct ZeroPose: Equatable, Sendable {
    private let reference: Rotation
    private let direction: Pose

    /// - Parameter direction: what the reference stands for; by default straight ahead.
    public init(_ reference: Pose, direction: Pose = Pose(yaw: 0, pitch: 0, roll: 0)) {
        self.reference = Rotation(reference)
        self.direction = direction
    }

    /// The zero of several poses, as of one second: the mean of their rotations.
    ///
    /// - Throws: `HeadPoseError`: there are none.
    public init(
        mean poses: [Pose], direction: Pose = Pose(yaw: 0, pitch: 0, roll: 0)
    ) throws {
        guard let first = poses.first else {
            throw HeadPoseError("a zero needs at least one pose")
        }
        reference = Rotation.mean(poses.map(Rotation.init), near: Rotation(first))
        self.direction = direction
    }

    /// A pose seen from the reference; of its two triples the one nearer to the direction.
    public func callAsFunction(_ pose: Pose) -> Pose {
        (Rotation(direction) * reference.inverse * Rotation(pose)).pose(near: direction)
    }
}
