import Foundation

/// Uncased BERT's tokenizer: text to token ids of `TextEncoder`. Counts Unicode scalars, not Characters.
public struct WordPiece: Sendable {
    public static let maxTokens = 256
    static let maxWordScalars = 100
    static let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map { Array($0.unicodeScalars) }

    private let table: [[Unicode.Scalar]: Int32]

    /// From `vocab.txt`: a token's id is the number of its line, from 0.
    public init(vocabulary file: URL) throws {
        guard let text = String(data: try Data(contentsOf: file), encoding: .utf8) else {
            throw DeviceError("vocab.txt must be UTF-8")
        }
        var lines = text.unicodeScalars
            .split(separator: "\n", omittingEmptySubsequences: false).map { Array($0) }
        if lines.last == [] { lines.removeLast() }
        let numbered = lines.enumerated().map { ($1, Int32($0)) }
        table = Dictionary(numbered, uniquingKeysWith: { first, _ in first })
        guard Self.special.allSatisfy({ table[$0] != nil }) else {
            throw DeviceError("vocab.txt must have the special tokens")
        }
    }

    /// [CLS], the pieces, [SEP]: 2 to 256 ids. The attention mask is 1 for each.
    public func ids(of text: String) -> [Int32] {
        [id("[CLS]")] + pieces(of: text).prefix(Self.maxTokens - 2) + [id("[SEP]")]
    }

    private func id(_ token: String) -> Int32 { table[Array(token.unicodeScalars)]! }

    private func pieces(of text: String) -> [Int32] {
        var found: [Int32] = [], plain: [Unicode.Scalar] = []
        let scalars = Array(text.unicodeScalars)
        var place = 0
        while place < scalars.count {
            if let token = Self.special.first(where: { scalars[place...].starts(with: $0) }) {
                found += Self.words(plain).flatMap { split($0) } + [table[token]!]
                plain = []
                place += token.count
            } else {
                plain.append(scalars[place])
                place += 1
            }
        }
        return found + Self.words(plain).flatMap { split($0) }
    }

    /// Greedy: at each place the longest piece of the vocabulary; the whole word is [UNK] if there is none.
    private func split(_ word: [Unicode.Scalar]) -> [Int32] {
        guard word.count <= Self.maxWordScalars else { return [id("[UNK]")] }
        var found: [Int32] = []
        var start = 0
        while start < word.count {
            let prefix: [Unicode.Scalar] = start == 0 ? [] : ["#", "#"]
            guard let end = (start + 1...word.count).last(where: { table[prefix + word[start..<$0]] != nil })
            else { return [id("[UNK]")] }
            found.append(table[prefix + word[start..<end]]!)
            start = end
        }
        return found
    }

    /// Cleaned, without accents, in lower case, split at white space and around punctuation and CJK.
    static func words(_ text: [Unicode.Scalar]) -> [[Unicode.Scalar]] {
        var cleaned = String.UnicodeScalarView()
        for scalar in text {
            switch scalar.properties.generalCategory {
            case .spaceSeparator: cleaned.append(" ")
            case _ where ["\t", "\n", "\r"].contains(scalar): cleaned.append(" ")
            case .control, .format, .privateUse, .surrogate: continue
            case _ where scalar == "\u{FFFD}": continue
            case _ where isCJK(scalar): cleaned.append(contentsOf: [" ", scalar, " "])
            default: cleaned.append(scalar)
            }
        }
        let bare = String(cleaned).decomposedStringWithCanonicalMapping.unicodeScalars
            .filter { $0.properties.generalCategory != .nonspacingMark }
        // Scalar by scalar: the lower case of a whole word would change a final sigma.
        let lower = bare.flatMap { Array($0.properties.lowercaseMapping.unicodeScalars) }
        var words: [[Unicode.Scalar]] = [], word: [Unicode.Scalar] = []
        for scalar in lower {
            let alone = isPunctuation(scalar)
            if !alone && !scalar.properties.isWhitespace {
                word.append(scalar)
                continue
            }
            if !word.isEmpty { words.append(word) }
            if alone { words.append([scalar]) }
            word = []
        }
        return word.isEmpty ? words : words + [word]
    }

    private static func isCJK(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F, 0x2B740...0x2B81F,
            0x2B920...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F:
            return true
        default:
            return false
        }
    }

    /// ASCII that is neither letter, digit nor control counts, such as $ and ^.
    private static func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 33...47, 58...64, 91...96, 123...126: return true
        default: break
        }
        switch scalar.properties.generalCategory {
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
            .initialPunctuation, .finalPunctuation, .otherPunctuation:
            return true
        default:
            return false
        }
    }
}
