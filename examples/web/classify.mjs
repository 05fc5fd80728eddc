// Classify binary PPM images with the model of a bundle, in Node with onnxruntime-web:
//   npm install onnxruntime-web && node classify.mjs BUNDLE photo.ppm...
// Every image gets one line of JSON.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { loadClassifier } from "./bundle.mjs";

const PREPROCESS = new URL("../../tcs_edge/report/page/templates/preprocess.js", import.meta.url);

// The package of the current folder, or the one in TCS_EDGE_ONNXRUNTIME_WEB.
async function onnxruntimeWeb() {
  const named = process.env.TCS_EDGE_ONNXRUNTIME_WEB;
  const here = createRequire(pathToFileURL(join(process.cwd(), "here.js")));
  const ort = await import(pathToFileURL(named ? join(named, "dist/ort.node.min.mjs") : here.resolve("onnxruntime-web")));
  ort.env.wasm.numThreads = 1;
  return ort.InferenceSession ? ort : ort.default;
}

async function opened(path) {
  const bytes = await readFile(path);
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(bytes.subarray(0, 40).toString("latin1"));
  if (!head) throw new Error("not a binary PPM image with 8 bits: " + path);
  const [width, height] = [Number(head[1]), Number(head[2])];
  const data = bytes.subarray(head[0].length, head[0].length + 3 * width * height);
  if (!data.length || data.length < 3 * width * height) throw new Error("the image is cut: " + path);
  return { data, width, height };
}

const [bundle, ...images] = process.argv.slice(2);
if (!images.length) {
  console.error("usage: node classify.mjs BUNDLE IMAGE.ppm...");
  process.exit(2);
}
try {
  const steps = new Function((await readFile(PREPROCESS, "utf8")) + "; return { squared, normalized };")();
  const classify = await loadClassifier(await onnxruntimeWeb(), (name) => readFile(join(bundle, name)), steps);
  for (const image of images) console.log(JSON.stringify({ image, ...(await classify(await opened(image))) }));
} catch (error) {
  console.error("error: " + error.message);
  process.exit(1);
}
