import CoreML

/// Route `state`: the head in the float16 buffers of `PersonalityModelStateful`. Needs the SDK of iOS 18.
@available(iOS 18, macOS 15, *)
public enum StateHead {
    /// A new state that holds the head. Buffers start at zero and are not saved: do this after every start.
    public static func make(_ model: MLModel, _ head: Head) -> MLState {
        let state = model.makeState()
        write(head, to: state)
        return state
    }

    /// Replace the head in a state, while no prediction is under way.
    public static func write(_ head: Head, to state: MLState) {
        fill("projection_weight", of: state, with: head.weight, columns: head.width)
        fill("output_bias", of: state, with: head.bias, columns: head.tokens)
    }

    private static func fill(_ name: String, of state: MLState, with values: [Float], columns: Int) {
        state.withMultiArray(for: name) { array in
            array.withUnsafeMutableBytes { buffer, strides in
                let numbers = buffer.bindMemory(to: Float16.self)
                // Rows may be padded: strides say where an element is, in elements.
                let (down, right) = (strides.count > 1 ? strides[0] : 0, strides[strides.count - 1])
                for (i, value) in values.enumerated() {
                    numbers[i / columns * down + i % columns * right] = Float16(value)
                }
            }
        }
    }
}
