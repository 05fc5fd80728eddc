"use strict";
// Classify images in the page: preprocess.js, then onnxruntime-web.

// ---- Decode a file to pixels with the browser's decoders.

async function decoded(file) {
  const plain = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };
  const bitmap = await createImageBitmap(file, plain);
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const data = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
  }
  return { data, width: canvas.width, height: canvas.height };
}

// ---- Unpack the model and its runtime, which are in this page as gzipped base64.

async function unpacked(id) {
  const packed = atob(document.getElementById(id).textContent.trim());
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

let loading = null;

function runtime() {
  loading ??= load();
  return loading;
}

async function load() {
  const script = new Blob([await unpacked("runtime-script")], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(script));
  ort.env.wasm.wasmBinary = await unpacked("runtime-binary");
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(await unpacked("model"), { executionProviders: ["wasm"] });
  return { ort, session };
}

const SETTINGS = JSON.parse(document.getElementById("preprocess").textContent);
const UNKNOWN_BELOW = JSON.parse(document.getElementById("unknown-below").textContent);
const LABELS = JSON.parse(document.getElementById("labels").textContent);

// Return the classes of an image file with their probabilities, the most probable first.
async function classify(file) {
  const { ort, session } = await runtime();
  const size = SETTINGS.img_size;
  const planes = normalized(squared(await decoded(file), SETTINGS), SETTINGS);
  const input = new ort.Tensor("float32", planes, [1, 3, size, size]);
  const output = await session.run({ [session.inputNames[0]]: input });
  return guesses(Array.from(output.logits.data));
}

function guesses(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  const all = powers.map((power, index) => ({ label: LABELS[index], index, probability: power / total }));
  return all.sort((one, other) => other.probability - one.probability || one.index - other.index);
}

// ---- The drop zone.

const SHOWN_GUESSES = 3;

function part(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function preview(file) {
  const image = part("img");
  image.src = URL.createObjectURL(file);
  image.alt = file.name;
  image.width = image.height = 120;
  return image;
}

function isUnknown(found) {
  return UNKNOWN_BELOW !== null && found[0].probability < UNKNOWN_BELOW;
}

function guessList(found) {
  const list = part("dl");
  if (isUnknown(found)) list.append(part("dt", "unknown, nearest:"), part("dd", ""));
  for (const guess of found.slice(0, SHOWN_GUESSES)) {
    const name = part("dt");
    name.append(part("bdi", guess.label));
    list.append(name, part("dd", (100 * guess.probability).toFixed(1) + " %"));
  }
  return list;
}

// Add a card for the file; return true if the file was classified.
async function show(file) {
  const item = part("li");
  const answer = part("p", "working …", "quiet");
  item.append(preview(file), answer, part("p", file.name, "file quiet"));
  document.getElementById("answers").prepend(item);
  try {
    answer.replaceWith(guessList(await classify(file)));
    return true;
  } catch (error) {
    item.querySelector("img").remove();
    answer.textContent = "This file cannot be classified: " + error.message;
    return false;
  }
}

function counted(number, thing) {
  return number + " " + thing + (number === 1 ? "" : "s");
}

async function showAll(files) {
  const status = document.getElementById("try-status");
  if (files.length === 0) {
    status.textContent = "No files received. Drop image files.";
    return;
  }
  status.textContent = "working …";
  let classified = 0;
  for (const file of files) classified += await show(file);
  const rest = files.length - classified;
  const failed = rest ? " " + counted(rest, "file") + " could not be classified." : "";
  status.textContent = counted(classified, "image") + " classified." + failed;
}

const zone = document.getElementById("drop-zone");
const chooser = document.getElementById("chooser");
chooser.addEventListener("change", () => showAll([...chooser.files]));
zone.addEventListener("dragover", (event) => {
  event.preventDefault();
  zone.classList.add("over");
});
zone.addEventListener("dragleave", () => zone.classList.remove("over"));
zone.addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  showAll([...event.dataTransfer.files]);
});

// For scripts that drive the page.
window.tcsEdge = { classify, isUnknown, decoded, squared, settings: SETTINGS };
