// What the copy buttons give. Each makes exactly the sequences that the preview shows.

// No valid JSON has three quotes in a row, or ends with a backslash.
export function python(text, seed, first, count) {
  return `import iterand

RECIPE = r"""
${text.trim()}
"""

# The rows of the preview. Without count= the stream has no end.
with iterand.stream(RECIPE, seed=${seed}, start=${first}, count=${count}, batch_size=${count}) as stream:
    for tokens in stream:
        print(tokens.shape, tokens.dtype)
`;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function command(text, seed, first, count) {
  return `iterand sample --recipe ${quoted(text.trim())} --seed ${seed} --start ${first} --count ${count}\n`;
}
