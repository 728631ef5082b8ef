// node consume.cjs MODEL FEATURES: (n, 453) little-endian float32 -> JSON of every output, by name.
const fs = require("fs");
const ort = require("onnxruntime-node");

async function main() {
  const [model, features] = process.argv.slice(2);
  const session = await ort.InferenceSession.create(model);
  const bytes = fs.readFileSync(features);
  const data = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const input = new ort.Tensor("float32", data, [data.length / 453, 453]);
  const found = await session.run({ features: input });
  const plain = Object.entries(found).map(([name, t]) => [name, { dims: t.dims, data: Array.from(t.data) }]);
  console.log(JSON.stringify({ inputs: session.inputNames, outputs: Object.fromEntries(plain) }));
}

main();
