"use strict";
// Preprocess 8-bit RGB images {data, width, height}: the steps of the validated model, without a browser or Node.

// ---- Resample like Pillow for 8-bit images: the filter widens with the shrink factor, weights are
// ---- fixed-point numbers of 22 bits, and each of the two passes rounds to 8 bits.

const PRECISION_BITS = 22;

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: (x) => cubic(Math.abs(x)) },
};

function cubic(x) {
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// Return for every output position the first input position and the weights.
function windows(size, low, high, outSize, filter) {
  const scale = Math.fround(high - low) / outSize;
  const widening = Math.max(scale, 1);
  const support = filter.support * widening;
  const spots = [];
  for (let at = 0; at < outSize; at++) {
    const center = low + (at + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(size, Math.trunc(center + support + 0.5));
    const weights = new Float64Array(last - first);
    let total = 0;
    for (let i = 0; i < weights.length; i++) {
      weights[i] = filter.weight((i + first - center + 0.5) * (1 / widening));
      total += weights[i];
    }
    spots.push({ first, weights: weights.map((weight) => fixedPoint(total ? weight / total : weight)) });
  }
  return spots;
}

function fixedPoint(weight) {
  return Math.trunc((weight < 0 ? -0.5 : 0.5) + weight * 2 ** PRECISION_BITS);
}

function toByte(sum) {
  return Math.min(255, Math.max(0, Math.floor(sum / 2 ** PRECISION_BITS)));
}

// One pass along an axis. An image is {data, width, height} with 3 bytes per pixel.
function resampled(image, spots, alongRows) {
  const width = alongRows ? spots.length : image.width;
  const height = alongRows ? image.height : spots.length;
  const step = alongRows ? 3 : 3 * image.width;
  const data = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const { first, weights } = spots[alongRows ? x : y];
      const start = alongRows ? 3 * (y * image.width + first) : 3 * (first * image.width + x);
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (PRECISION_BITS - 1);
        for (let i = 0, at = start + channel; i < weights.length; i++, at += step) sum += image.data[at] * weights[i];
        data[3 * (y * width + x) + channel] = toByte(sum);
      }
    }
  }
  return { data, width, height };
}

// Resize the part `box` of the image: [left, top, right, bottom].
function resize(image, width, height, box, filter) {
  const [left, top, right, bottom] = box.map(Math.fround);
  const across = (from) =>
    width === from.width && left === 0 && right === width
      ? from
      : resampled(from, windows(from.width, left, right, width, filter), true);
  const down = (from) =>
    height === from.height && top === 0 && bottom === height
      ? from
      : resampled(from, windows(from.height, top, bottom, height, filter), false);
  return downFirst(image, width, height) ? across(down(image)) : down(across(image));
}

// Both orders differ by rounding. Pillow 13 and later start with the columns if that saves much work.
function downFirst(image, width, height) {
  const fewerRows = image.height - height;
  return fewerRows > 0 && fewerRows > 2 * (image.width - width);
}

// ---- The preprocessing of preprocess.json.

const ELONGATED = 16; // above this ratio of sides only the cropped part is resized

function resizedSize(image, settings) {
  const side = settings.resized_side;
  const { width, height } = image;
  if (settings.resize === "stretch") return [side, side];
  if (width <= height) return [side, Math.floor((side * height) / width)];
  return [Math.floor((side * width) / height), side];
}

function squared(image, settings) {
  const size = settings.img_size;
  const filter = FILTERS[settings.interpolation];
  const [width, height] = resizedSize(image, settings);
  const left = Math.floor((width - size) / 2);
  const top = Math.floor((height - size) / 2);
  if (Math.max(width, height) > ELONGATED * Math.min(width, height)) {
    const across = image.width / width;
    const down = image.height / height;
    const right = Math.min((left + size) * across, image.width);
    const bottom = Math.min((top + size) * down, image.height);
    return resize(image, size, size, [left * across, top * down, right, bottom], filter);
  }
  return cropped(resize(image, width, height, [0, 0, image.width, image.height], filter), left, top, size);
}

function cropped(image, left, top, size) {
  const data = new Uint8Array(3 * size * size);
  for (let y = 0; y < size; y++) {
    const start = 3 * ((top + y) * image.width + left);
    data.set(image.data.subarray(start, start + 3 * size), 3 * y * size);
  }
  return { data, width: size, height: size };
}

// float32 (3, size, size): (value / 255 - mean) / std, every step rounded to float32.
function normalized(image, settings) {
  const pixels = image.width * image.height;
  const planes = new Float32Array(3 * pixels);
  for (let channel = 0; channel < 3; channel++) {
    const mean = Math.fround(settings.mean[channel]);
    const std = Math.fround(settings.std[channel]);
    for (let i = 0; i < pixels; i++) {
      const share = Math.fround(image.data[3 * i + channel] / 255);
      planes[channel * pixels + i] = Math.fround(Math.fround(share - mean) / std);
    }
  }
  return planes;
}
