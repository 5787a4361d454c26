/// What a user can put right, as one sentence that names the file.
public struct HeadPoseError: Error, CustomStringConvertible, Equatable {
    public let description: String

    public init(_ description: String) {
        self.description = description
    }
}
