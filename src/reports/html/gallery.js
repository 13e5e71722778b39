// Images with their truth, and the predictions and errors of two rows, divided by a slider.
(() => {
  const galleries = data.galleries.filter((gallery) => gallery.shots.length);
  const galleryOf = (row) => galleries.find((gallery) => gallery.cells[row]);
  const rows = data.rows.map((row, index) => index).filter(galleryOf);
  $("gallery-empty").hidden = rows.length > 0;
  $("gallery").hidden = rows.length === 0;
  window.openImage = () => {};
  if (!rows.length) return;

  const [selectA, selectB] = [$("gallery-a"), $("gallery-b")];
  const [left, right] = [$("shot-left"), $("shot-right")];
  const canvas = $("shot-canvas");
  const strip = $("gallery-strip");
  const slider = $("shot-slider");
  const WRONG = [230, 40, 40];
  let shots = [];
  let current = null;
  let layers = {};

  const ticked = [...drawn.keys()].filter((row) => rows.includes(row));
  fillSelect(selectA, rows.map((row) => [row, rowTitle(row)]), ticked[0] ?? rows[0]);
  const LAYERS = [["image", "image"], ["truth", "truth"], ["a", "prediction of A"], ["errors-a", "errors of A"], ["b", "prediction of B"], ["errors-b", "errors of B"]];

  function chooseRows() {
    const a = Number(selectA.value);
    const same = rows.filter((row) => galleryOf(row) === galleryOf(a));
    const before = Number(selectB.value);
    const others = same.filter((row) => row !== a);
    const usual = others.find((row) => ticked.includes(row)) ?? others[0] ?? a;
    fillSelect(selectB, same.map((row) => [row, rowTitle(row)]), same.includes(before) && selectB.value !== "" ? before : usual);
    const hasTwo = others.length > 0;
    const chosen = [left.value || "a", right.value || "truth"];
    for (const select of [left, right]) fillSelect(select, LAYERS);
    [left.value, right.value] = chosen;
    for (const option of $("gallery-order").options) option.disabled = option.value !== "a" && !hasTwo;
    order();
  }

  function order() {
    const [a, b] = [selectA.value, selectB.value];
    const score = (shot, row) => shot.scores[row] ?? 2;
    const by = {
      a: (shot) => score(shot, a),
      b: (shot) => score(shot, b),
      loss: (shot) => score(shot, b) - score(shot, a),
      gain: (shot) => score(shot, a) - score(shot, b),
    }[$("gallery-order").value];
    shots = [...galleryOf(Number(a)).shots].sort((first, second) => by(first) - by(second));
    strip.replaceChildren(
      ...shots.map((shot, index) =>
        make("figure", { role: "option", id: `shot-${index}`, "aria-selected": "false", onclick: () => open(index) }, make("img", { src: shot.image, alt: shot.name, width: 128, height: Math.round((128 * shot.height) / shot.width) }), make("figcaption", {}, `A ${percent(shot.scores[a], 1)}${a === b ? "" : `, B ${percent(shot.scores[b], 1)}`}`)),
      ),
    );
    const place = shots.indexOf(current);
    open(place >= 0 && !strip.dataset.reset ? place : 0);
    delete strip.dataset.reset;
  }

  const decode = (uri) =>
    new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error("an image of the page cannot be decoded"));
      image.src = uri;
    });

  /** The grey values of a picture, which are the ids of classes. */
  async function readIds(uri, width, height) {
    const own = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    own.drawImage(await decode(uri), 0, 0);
    const pixels = own.getImageData(0, 0, width, height).data;
    return Uint8Array.from({ length: width * height }, (_, index) => pixels[4 * index]);
  }

  async function open(index) {
    const shot = shots[index];
    current = shot;
    delete canvas.dataset.shot;
    const [a, b] = [selectA.value, selectB.value];
    [...strip.children].forEach((figure, place) => figure.setAttribute("aria-selected", String(place === index)));
    strip.setAttribute("aria-activedescendant", `shot-${index}`);
    const chosen = strip.children[index];
    strip.scrollLeft = chosen.offsetLeft - strip.offsetLeft - strip.clientWidth / 2 + chosen.clientWidth / 2;
    $("shot-title").textContent = `${shot.name}: mIoU of A ${percent(shot.scores[a])}${a === b ? "" : `, of B ${percent(shot.scores[b])}`}`;
    const { width, height } = shot;
    const read = (uri) => (uri ? readIds(uri, width, height) : null);
    const [image, truth, idsA, idsB] = await Promise.all([decode(shot.image), read(shot.truth), read(shot.predictions[a]), read(shot.predictions[b])]);
    if (current !== shot || a !== selectA.value || b !== selectB.value) return;
    const own = new OffscreenCanvas(width, height).getContext("2d");
    own.drawImage(image, 0, 0, width, height);
    layers = { width, height, image: own.getImageData(0, 0, width, height).data, truth, a: idsA, b: idsB, palette: data.palettes[data.runs[data.rows[a].run].palette] };
    canvas.width = width;
    canvas.height = height;
    legend();
    paint();
    canvas.dataset.shot = shot.name; // what is on the canvas now, for tests
  }

  /** RGB of one picture; ignored pixels are striped, so that no colour of a class is taken for them. */
  function layer(kind) {
    const { width, height, image, truth, palette } = layers;
    const result = new Uint8ClampedArray(4 * width * height).fill(255);
    const opacity = $("shot-opacity").value / 100;
    const ids = kind === "truth" ? truth : layers[kind.slice(-1)];
    for (let index = 0; index < width * height; index++) {
      const at = 4 * index;
      let colour = null;
      let share = opacity;
      const stripe = (Math.floor(index / width) + (index % width)) % 6 < 3 ? [255, 255, 255] : [136, 136, 136];
      if (kind === "truth") colour = truth[index] === 255 ? stripe : palette[truth[index]]?.[1];
      else if (kind.startsWith("errors")) {
        if (truth[index] === 255) colour = stripe;
        else if (ids && ids[index] !== truth[index]) colour = WRONG;
        share = Math.max(opacity, 0.6);
      } else if (kind !== "image") colour = ids ? palette[ids[index]]?.[1] : null;
      for (let channel = 0; channel < 3; channel++) {
        const own = kind.startsWith("errors") ? 0.45 * (image[at] + image[at + 1] + image[at + 2]) / 3 : image[at + channel];
        result[at + channel] = colour ? own * (1 - share) + colour[channel] * share : own;
      }
    }
    return new ImageData(result, width, height);
  }

  function paint() {
    if (!layers.image) return;
    const { width, height } = layers;
    const context = canvas.getContext("2d", { willReadFrequently: true }); // it is painted from arrays, never by shapes
    const middle = Math.round((width * slider.value) / 1000);
    context.putImageData(layer(right.value), 0, 0);
    if (middle > 0) context.putImageData(layer(left.value), 0, 0, 0, 0, middle, height);
    context.fillStyle = "#fff";
    context.fillRect(middle - 1, 0, 2, height);
    const size = Math.max(11, Math.round((width / Math.max(1, canvas.clientWidth)) * 13));
    context.font = `${size}px system-ui, sans-serif`;
    context.textBaseline = "top";
    const label = (text, x, align, room) => {
      if (room < 30) return;
      context.textAlign = align;
      const length = Math.min(context.measureText(text).width, room);
      context.fillStyle = "rgba(0,0,0,.65)";
      context.fillRect(align === "left" ? x - 3 : x - length - 3, 3, length + 6, size + 5);
      context.fillStyle = "#fff";
      context.fillText(text, x, 5, room);
    };
    label(left.selectedOptions[0].textContent, 6, "left", middle - 12);
    label(right.selectedOptions[0].textContent, width - 6, "right", width - middle - 12);
    const missing = [left.value, right.value].some((kind) => /a$|b$/.test(kind) && kind !== "image" && !layers[kind.slice(-1)]);
    $("shot-pixel").textContent = missing ? "A prediction of this image was not kept: python -m src.eval run=RUN keeps it." : "Point at the picture for the classes of a pixel.";
  }

  function legend() {
    const { truth, a, b, palette } = layers;
    const present = new Set([...truth, ...(a ?? []), ...(b ?? [])]);
    const entries = palette.map(([name, colour], id) => (present.has(id) ? make("span", {}, swatch(colour), name) : null));
    $("shot-classes").replaceChildren(...entries.filter(Boolean), make("span", {}, swatch(WRONG), "error"), make("span", {}, make("span", { class: "swatch ignored" }), "ignored"));
  }

  canvas.addEventListener("pointermove", (event) => {
    if (!layers.image) return;
    const box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * layers.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * layers.height);
    if (x < 0 || y < 0 || x >= layers.width || y >= layers.height) return;
    const name = (ids) => (ids ? (ids[y * layers.width + x] === 255 ? "ignored" : layers.palette[ids[y * layers.width + x]]?.[0] ?? "no class") : "not kept");
    $("shot-pixel").textContent = `Pixel ${x}, ${y}: truth ${name(layers.truth)}, A ${name(layers.a)}, B ${name(layers.b)}.`;
    if (event.buttons & 1) {
      slider.value = (1000 * (event.clientX - box.left)) / box.width;
      paint();
    }
  });
  canvas.addEventListener("pointerdown", (event) => {
    const box = canvas.getBoundingClientRect();
    slider.value = (1000 * (event.clientX - box.left)) / box.width;
    paint();
  });

  const step = (by) => open(Math.max(0, Math.min(shots.length - 1, shots.indexOf(current) + by)));
  $("shot-before").addEventListener("click", () => step(-1));
  $("shot-after").addEventListener("click", () => step(1));
  strip.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -shots.length, End: shots.length }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  selectA.addEventListener("input", chooseRows);
  selectB.addEventListener("input", order);
  $("gallery-order").addEventListener("input", () => {
    strip.dataset.reset = "1";
    order();
  });
  for (const element of [left, right, slider, $("shot-opacity")]) element.addEventListener("input", paint);

  window.openImage = (row, name) => {
    if (galleryOf(row)) {
      selectA.value = row;
      chooseRows();
    }
    const place = shots.findIndex((shot) => shot.name === name);
    if (place >= 0) open(place);
    $("images").scrollIntoView();
    strip.focus({ preventScroll: true });
  };
  chooseRows();
})();
