// The confusion matrix of one row: numbers by pointer and keyboard, and the images that fill a cell.
(() => {
  const select = $("confusion-row");
  const rows = data.rows.map((row, index) => index).filter((index) => data.rows[index].matrix);
  const grid = $("confusion-grid");
  const detail = $("confusion-detail");
  if (!rows.length) {
    grid.replaceChildren(make("p", { class: "note" }, "No run in this report is evaluated."));
    return;
  }
  fillSelect(select, rows.map((row) => [row, rowTitle(row)]));
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

  /** Blue with the square root of a share, so that a few percent are seen. */
  const paint = (share) => `rgba(0, 96, 200, ${Math.min(1, Math.sqrt(share))})`;

  function show() {
    const row = Number(select.value);
    const { matrix, classes } = data.rows[row];
    const kind = $("confusion-kind").value;
    const truths = matrix.map(sum);
    const predictions = classes.map((_, column) => sum(matrix.map((counts) => counts[column])));
    const most = Math.max(...matrix.flat());
    const share = (truth, prediction) => {
      const total = kind === "truth" ? truths[truth] : kind === "prediction" ? predictions[prediction] : most;
      return total ? matrix[truth][prediction] / total : null;
    };
    const colours = new Map(data.palettes[data.runs[data.rows[row].run].palette]);
    const patch = (name) => swatch(colours.get(name) ?? [0, 0, 0]);
    const body = make("tbody");
    matrix.forEach((counts, truth) => {
      const line = make("tr", {}, make("th", { scope: "row", title: classes[truth] }, classes[truth], " ", patch(classes[truth])));
      counts.forEach((pixels, prediction) => {
        const value = share(truth, prediction);
        const text = value === null ? "" : kind === "pixels" ? brief(pixels) : 100 * value >= 0.5 ? (100 * value).toFixed(0) : pixels ? "·" : "";
        const isDark = value !== null && Math.sqrt(value) > 0.6;
        const cell = make("td", { tabindex: -1, "data-truth": truth, "data-prediction": prediction, style: { background: paint(value ?? 0), ...(isDark ? { color: "#fff" } : {}) } }, text);
        cell.setAttribute("aria-label", `truth ${classes[truth]}, prediction ${classes[prediction]}: ${value === null ? "none" : percent(value)}`);
        line.append(cell);
      });
      body.append(line);
    });
    const head = make("tr", {}, make("th"), ...classes.map((name) => make("th", { scope: "col", title: name }, make("span", {}, name))));
    grid.replaceChildren(make("table", { "aria-label": "Confusion matrix: rows truth, columns prediction" }, make("thead", {}, head), body));
    // The first cell to be told about: the class pair that costs most of its truth.
    let worst = [0, 0];
    matrix.forEach((counts, truth) => counts.forEach((pixels, prediction) => {
      const part = (t, p) => (t === p ? -1 : matrix[t][p] / (truths[t] || Infinity));
      if (part(truth, prediction) > part(...worst)) worst = [truth, prediction];
    }));
    const start = body.rows[worst[0]].cells[worst[1] + 1];
    start.tabIndex = 0;
    const unit = { truth: "of the pixels of the truth's class", prediction: "of the pixels of the predicted class", pixels: `of ${count(most)} pixels, the fullest cell` }[kind];
    const bar = make("i", { style: { background: `linear-gradient(to right, ${[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1].map((value) => `${paint(value)} ${100 * Math.sqrt(value)}%`).join(",")})` } });
    $("confusion-scale").replaceChildren("0 %", bar, `100 % ${unit}; colour by the square root`);
    tell(start);

    function tell(cell) {
      const [truth, prediction] = [Number(cell.dataset.truth), Number(cell.dataset.prediction)];
      const pixels = matrix[truth][prediction];
      const images = imagesOf(row, truth, prediction);
      const where = truths[truth] ? `${percent(pixels / truths[truth])} of the truth ${classes[truth]}` : `no truth ${classes[truth]}`;
      const what = predictions[prediction] ? `${percent(pixels / predictions[prediction])} of what was predicted as ${classes[prediction]}` : `nothing was predicted as ${classes[prediction]}`;
      detail.replaceChildren(
        make("p", {}, make("strong", {}, truth === prediction ? `${classes[truth]}, right` : `${classes[truth]} taken for ${classes[prediction]}`)),
        make("p", {}, `${count(pixels)} pixels: ${where}, ${what}.`),
        ...(images.length ? [make("p", {}, "Most of them in")] : []),
        ...images.map(([name, part, isShown]) => (isShown ? make("button", { type: "button", onclick: () => window.openImage(row, name) }, `${name}: ${count(part)} pixels`) : make("p", { class: "note" }, `${name}: ${count(part)} pixels; not among the images below`))),
      );
    }

    const cellOf = (event) => event.target.closest?.("td[data-truth]");
    body.onpointerover = (event) => {
      const cell = cellOf(event);
      if (!cell) return;
      const [truth, prediction] = [cell.dataset.truth, cell.dataset.prediction];
      showTip(`truth ${classes[truth]}, prediction ${classes[prediction]}\n${count(matrix[truth][prediction])} pixels, ${truths[truth] ? percent(matrix[truth][prediction] / truths[truth]) : "none"} of the truth`, event.clientX, event.clientY);
    };
    body.onpointerleave = hideTip;
    body.onclick = (event) => cellOf(event)?.focus();
    body.addEventListener("focusin", (event) => {
      const cell = cellOf(event);
      if (!cell) return;
      body.querySelectorAll("td[tabindex='0']").forEach((each) => (each.tabIndex = -1));
      cell.tabIndex = 0;
      tell(cell);
    });
    body.onkeydown = (event) => {
      const cell = cellOf(event);
      if (!cell) return;
      const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
      if (event.key === "Enter") detail.querySelector("button")?.click();
      if (!down && !right) return;
      event.preventDefault();
      body.rows[Number(cell.dataset.truth) + down]?.cells[Number(cell.dataset.prediction) + right + 1]?.focus();
    };
  }

  const brief = (pixels) => (pixels >= 1e9 ? `${(pixels / 1e9).toPrecision(2)}G` : pixels >= 1e6 ? `${(pixels / 1e6).toPrecision(2)}M` : pixels >= 1e3 ? `${(pixels / 1e3).toFixed(0)}k` : pixels || "");

  /** Names of the images that fill a cell, their pixels, and whether the gallery has them. */
  function imagesOf(row, truth, prediction) {
    const gallery = data.galleries.find((each) => each.cells[row]);
    const found = gallery?.cells[row][`${truth},${prediction}`] ?? [];
    return found.map(([name, pixels]) => [name, pixels, gallery.shots.some((shot) => shot.name === name)]);
  }

  for (const element of [select, $("confusion-kind")]) element.addEventListener("input", show);
  const bestRow = [...drawn.keys()].find((row) => data.rows[row].matrix);
  if (bestRow !== undefined) select.value = bestRow;
  show();
})();
