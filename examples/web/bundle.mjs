// The model of a bundle in onnxruntime-web, for classify.mjs (Node) and index.html (browser).
// `squared` and `normalized` come from preprocess.js of the report, whose pixels equal Pillow's.

// Return a function from an image {data, width, height}, 8-bit RGB, to its classes, the most probable first.
//   ort: the module onnxruntime-web. read: from the name of a file of the bundle to its bytes.
//   steps: { squared, normalized } of preprocess.js.
export async function loadClassifier(ort, read, steps) {
  const text = async (name) => new TextDecoder().decode(await read(name));
  const about = JSON.parse(await text("bundle.json"));
  if (about.runtime !== "onnxruntime") throw new Error("this bundle is for " + about.runtime + ". Bundle with --runtime onnxruntime");
  const settings = JSON.parse(await text("preprocess.json"));
  settings.resized_side ??= Math.floor(settings.img_size / settings.crop_pct);
  const labels = (await text("labels.txt")).split("\n").slice(0, -1);
  const unknownBelow = JSON.parse(await text("confidence.json")).unknown?.below ?? 0;
  const session = await ort.InferenceSession.create(await read(about.model), { executionProviders: ["wasm"] });
  const size = settings.img_size;
  return async (image) => {
    const planes = steps.normalized(steps.squared(image, settings), settings);
    const input = new ort.Tensor("float32", planes, [1, 3, size, size]);
    const output = await session.run({ [session.inputNames[0]]: input });
    const guesses = softmax(output.logits.data).map((probability, row) => ({ label: labels[row], probability }));
    guesses.sort((one, other) => other.probability - one.probability);
    return { guesses, unknown: guesses[0].probability < unknownBelow };
  };
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}
