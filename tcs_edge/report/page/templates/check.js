"use strict";
// Lines of ticked images; the same line may stand at several images.
const boxes = [...document.querySelectorAll("input.choice")];
const save = document.getElementById("save");
let address = "";

function update() {
  const ticked = boxes.filter((box) => box.checked).map((box) => JSON.parse(box.dataset.line));
  const lines = [...new Set(ticked)];
  const text = lines.map((line) => line + "\n").join("");
  document.getElementById("lines").value = text;
  document.getElementById("count").textContent = String(lines.length);
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  save.href = address;
}

for (const box of boxes) {
  box.addEventListener("change", () => {
    for (const same of boxes) if (same.dataset.line === box.dataset.line) same.checked = box.checked;
    update();
  });
}
update();
