// Curves, bars of classes, accuracy against cost, folds.
(() => {
  const runsDrawn = () => {
    const found = new Map(); // run to the row whose colour its curve has
    for (const row of drawn.keys()) if (!found.has(data.rows[row].run)) found.set(data.rows[row].run, row);
    return [...found];
  };

  // Curves
  const keys = new Set(data.runs.flatMap((run) => Object.keys(run.curves)));
  const first = ["val/miou", "val/loss", "train/loss_epoch", "train/loss"].filter((key) => keys.has(key));
  const rest = [...keys].filter((key) => !first.includes(key)).sort();
  fillSelect($("curve-key"), [...first, ...rest].map((key) => [key, key]));

  function curves() {
    const element = $("curve-plot");
    const key = $("curve-key").value;
    const by = Number($("curve-by").value);
    const isLog = $("curve-log").checked;
    const found = runsDrawn()
      .map(([run, row]) => ({ run, row, name: data.runs[run].name, points: data.runs[run].curves[key] }))
      .filter((each) => each.points)
      .map((each) => ({ ...each, x: each.points[by ? 1 : 0], y: each.points[2] }));
    const legend = $("curve-legend");
    if (!found.length) {
      element.replaceChildren(make("p", { class: "note" }, keys.size ? "No ticked run has this curve; tick runs in the table." : "No run in this report has logged curves: published ones have none."));
      legend.replaceChildren();
      return;
    }
    const all = found.flatMap((each) => each.y.filter((value) => isNumber(value) && (!isLog || value > 0)));
    const isShare = /miou|iou\/|accuracy/.test(key) && !isLog;
    let [low, high] = [Math.min(...all), Math.max(...all)];
    if (isShare) [low, high] = [Math.max(0, low - 0.05), Math.min(1, high + 0.05)];
    else if (!isLog) [low, high] = [Math.min(0, low), high * 1.05];
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const xs = found.flatMap((each) => each.x);
    const plot = frame(element, { x: [by ? 0 : Math.min(...xs), Math.max(...xs)], y: [low, high], xTitle: by ? "epoch" : "step", yTitle: key, height: 360, logY: isLog, wholeX: true });
    const best = key === "val/miou";
    const entries = [];
    for (const each of found) {
      const style = lineStyle(each.row);
      const places = each.y.map((value, index) => index).filter((index) => isNumber(each.y[index]) && (!isLog || each.y[index] > 0));
      const path = places.map((index, number) => `${number ? "L" : "M"}${plot.toX(each.x[index]).toFixed(1)} ${plot.toY(each.y[index]).toFixed(1)}`).join("");
      plot.svg.append(make("path", { d: path, fill: "none", "stroke-width": 1.8, ...style }));
      if (places.length === 1) plot.svg.append(make("circle", { cx: plot.toX(each.x[places[0]]), cy: plot.toY(each.y[places[0]]), r: 3, fill: style.stroke }));
      let text = each.name;
      if (best && places.length) {
        const top = places.reduce((a, b) => (each.y[b] > each.y[a] ? b : a));
        plot.svg.append(make("circle", { cx: plot.toX(each.x[top]), cy: plot.toY(each.y[top]), r: 4.5, fill: "none", "stroke-width": 2, stroke: style.stroke }));
        text += `: best ${percent(each.y[top])} at epoch ${short(each.points[1][top])}`;
      } else if (places.length) {
        text += `: last ${short(each.y[places[places.length - 1]])}`;
      }
      entries.push(make("span", {}, lineSample(style), text));
    }
    legend.replaceChildren(...entries);
    const cursor = make("line", { class: "cursor", y1: plot.box.top, y2: plot.box.bottom, visibility: "hidden" });
    plot.svg.append(cursor);
    const stops = [...new Set(xs)].sort((a, b) => a - b);
    let stop = stops.length - 1;
    function show(place, clientX, clientY) {
      stop = Math.max(0, Math.min(stops.length - 1, place));
      const at = stops[stop];
      cursor.setAttribute("x1", plot.toX(at));
      cursor.setAttribute("x2", plot.toX(at));
      cursor.setAttribute("visibility", "visible");
      const lines = found.map((each) => {
        const near = each.x.reduce((a, b, index) => (Math.abs(b - at) < Math.abs(each.x[a] - at) ? index : a), 0);
        return `${each.name}: ${isNumber(each.y[near]) ? (isShare ? percent(each.y[near]) : String(Number(each.y[near].toPrecision(4)))) : "not a number"}`;
      });
      showTip([`${by ? "epoch" : "step"} ${short(at)}`, ...lines].join("\n"), clientX, clientY);
    }
    const box = () => plot.svg.getBoundingClientRect();
    plot.svg.addEventListener("pointermove", (event) => {
      const at = ((event.clientX - box().left) / box().width) * plot.width;
      show(stops.reduce((a, value, index) => (Math.abs(plot.toX(value) - at) < Math.abs(plot.toX(stops[a]) - at) ? index : a), 0), event.clientX, event.clientY);
    });
    const hide = () => { hideTip(); cursor.setAttribute("visibility", "hidden"); };
    plot.svg.addEventListener("pointerleave", hide);
    plot.svg.setAttribute("tabindex", "0");
    plot.svg.addEventListener("blur", hide);
    plot.svg.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way) return;
      event.preventDefault();
      show(stop + way, box().left + (plot.toX(stops[Math.max(0, Math.min(stops.length - 1, stop + way))]) / plot.width) * box().width, box().top + 30);
    });
  }
  for (const id of ["curve-key", "curve-by", "curve-log"]) $(id).addEventListener("input", curves);
  onWidth($("curve-plot"), curves);
  watchers.push(curves);

  // Bars of classes
  function bars() {
    const evaluated = [...drawn.keys()].filter((row) => data.rows[row].iou);
    const element = $("class-bars");
    // Rows of other classes cannot stand beside each other: the classes of most rows are chosen.
    const sets = new Map();
    for (const row of evaluated) sets.set(String(data.rows[row].classes), [...(sets.get(String(data.rows[row].classes)) ?? []), row]);
    const shown = [...sets.values()].sort((a, b) => b.length - a.length)[0] ?? [];
    const others = evaluated.filter((row) => !shown.includes(row));
    if (!shown.length) {
      element.replaceChildren(make("p", { class: "note" }, "Tick evaluated runs in the table."));
      return;
    }
    const names = [...new Set(shown.flatMap((row) => data.rows[row].classes))];
    const iou = (row, name) => data.rows[row].iou[data.rows[row].classes.indexOf(name)];
    const values = (name) => shown.map((row) => iou(row, name)).filter(isNumber);
    const mean = (name) => values(name).reduce((a, b) => a + b, 0) / (values(name).length || NaN);
    const spread = (name) => Math.max(...values(name)) - Math.min(...values(name));
    const order = $("class-order").value;
    if (order === "worst") names.sort((a, b) => (mean(a) || 2) - (mean(b) || 2));
    if (order === "difference") names.sort((a, b) => spread(b) - spread(a));
    const colours = new Map(data.palettes.flat());
    const grid = make("div", { class: "bars" });
    const entry = (label, cells) => grid.append(make("div", { class: "name" }, ...label), make("div", { class: "set" }, ...cells));
    const bar = (row, value, interval) => {
      const track = make("div", { class: "track" });
      if (isNumber(value)) track.append(make("i", { style: { width: `${100 * value}%`, background: lineStyle(row).stroke } }));
      if (interval && isNumber(interval[0])) track.append(make("u", { style: { left: `${100 * interval[0]}%`, width: `${100 * (interval[1] - interval[0])}%` } }));
      const line = make("div", { class: "bar" }, track, make("b", {}, percent(value) + (isNumber(value) ? data.rows[row].mark : "")));
      if (interval) line.title = `${rowTitle(row)}: 95 % interval over images ${percent(interval[0])} to ${percent(interval[1])}`;
      return line;
    };
    entry([make("strong", {}, "mean")], shown.map((row) => bar(row, data.rows[row].miou, data.rows[row].interval)));
    for (const name of names) entry([swatch(colours.get(name) ?? [0, 0, 0]), name], shown.map((row) => bar(row, iou(row, name), data.rows[row].ious[name])));
    const legend = make("div", { class: "legend" }, ...shown.map((row) => make("span", {}, swatchOf(lineStyle(row).stroke), rowTitle(row))));
    element.replaceChildren(legend, grid);
    if (shown.some((row) => data.rows[row].interval)) element.append(make("p", { class: "note" }, "Lines on the bars: 95 % intervals by bootstrap over the images."));
    if (others.length) element.append(make("p", { class: "note" }, `Of other classes, and not drawn: ${others.map(rowTitle).join("; ")}.`));
  }
  const swatchOf = (colour) => make("span", { class: "swatch", style: { background: colour, "border-color": colour } });
  $("class-order").addEventListener("input", bars);
  watchers.push(bars);

  // Accuracy and cost
  fillSelect($("cost-group"), groups.map((group) => [group, group.replace(/ [0-9a-f]{12}$/, "")]));

  function cost() {
    const key = $("cost-key").value;
    const title = $("cost-key").selectedOptions[0].textContent;
    const inGroup = data.rows.map((row, index) => ({ ...row, index })).filter((row) => row.group && row.group === $("cost-group").value);
    const points = inGroup.map((row) => ({ row: row.index, x: data.runs[row.run][key], y: row.miou, interval: row.interval })).filter((point) => isNumber(point.x) && point.x > 0 && isNumber(point.y));
    const element = $("cost-plot");
    const missing = inGroup.length - points.length;
    const how = key === "minutes" ? "a run that was killed has no time" : "python -m src.eval run=RUN records them";
    const legend = $("cost-legend");
    if (!points.length) {
      element.replaceChildren(make("p", { class: "note" }, `No run has its ${title}; ${how}.`));
      legend.replaceChildren();
      return;
    }
    points.sort((a, b) => a.x - b.x || b.y - a.y);
    const xs = points.map((point) => point.x);
    const ys = points.flatMap((point) => [100 * point.y, ...(point.interval ?? []).map((value) => 100 * value)]);
    const pad = Math.max(1, (Math.max(...ys) - Math.min(...ys)) * 0.12);
    const plot = frame(element, { x: [Math.min(...xs) / 1.3, Math.max(...xs) * 1.3], y: [Math.max(0, Math.min(...ys) - pad), Math.min(100, Math.max(...ys) + pad)], xTitle: `${title}, logarithmic`, yTitle: "mIoU, %", height: 380, logX: true });
    let top = -1;
    let path = "";
    for (const point of points) {
      const [x, y] = [plot.toX(point.x), plot.toY(100 * point.y)];
      if (point.y > top && !data.rows[point.row].mark) {
        path += path ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`;
        top = point.y;
      }
    }
    plot.svg.append(make("path", { d: path, fill: "none", stroke: "var(--dim)", "stroke-dasharray": "3 3" }));
    // Boxes of left, top, right, bottom that a number may not cover: all points, and the numbers before it.
    const taken = points.map((point) => [plot.toX(point.x) - 6, plot.toY(100 * point.y) - 6, plot.toX(point.x) + 6, plot.toY(100 * point.y) + 6]);
    points.forEach((point, number) => {
      const [x, y] = [plot.toX(point.x), plot.toY(100 * point.y)];
      const colour = drawn.has(point.row) ? lineStyle(point.row).stroke : "var(--dim)";
      if (point.interval) plot.svg.append(make("line", { x1: x, x2: x, y1: plot.toY(100 * point.interval[0]), y2: plot.toY(100 * point.interval[1]), stroke: colour, "stroke-width": 1.5 }));
      const circle = make("circle", { cx: x, cy: y, r: 5.5, fill: colour, tabindex: 0 });
      const text = `${rowTitle(point.row)}\nmIoU ${percent(point.y)}${data.rows[point.row].mark}\n${title}: ${Number(point.x.toPrecision(4))}`;
      for (const name of ["pointerenter", "focus"]) circle.addEventListener(name, () => showTip(text, circle.getBoundingClientRect().left, circle.getBoundingClientRect().top));
      for (const name of ["pointerleave", "blur"]) circle.addEventListener(name, hideTip);
      circle.append(make("title", {}, text));
      plot.svg.append(circle);
      // The number goes to the first place at which it covers nothing, further and further out.
      const label = String(number + 1);
      const places = [8, 16, 26, 38, 52].flatMap((far) => [[far, 4, "start"], [-far, 4, "end"], [0, -far, "middle"], [0, far + 9, "middle"], [far, -far, "start"], [far, far + 9, "start"], [-far, -far, "end"], [-far, far + 9, "end"]]);
      const room = ([dx, dy, side]) => {
        const left = x + dx - { start: 0, middle: 4 * label.length, end: 8 * label.length }[side];
        return [left, y + dy - 10, left + 8 * label.length, y + dy + 1];
      };
      const free = (box) => taken.every((other) => box[0] >= other[2] || other[0] >= box[2] || box[1] >= other[3] || other[1] >= box[3]) && box[0] > plot.box.left && box[2] < plot.width && box[1] > 0 && box[3] < plot.box.bottom;
      const [dx, dy, anchor] = places.find((place) => free(room(place))) ?? places[0];
      taken.push(room([dx, dy, anchor]));
      if (Math.hypot(dx, dy) > 24) plot.svg.append(make("line", { class: "grid", x1: x, x2: x + dx, y1: y, y2: y + dy - 4 }));
      plot.svg.append(make("text", { x: x + dx, y: y + dy, "text-anchor": anchor }, label));
    });
    legend.replaceChildren(...points.map((point, number) => make("span", {}, `${number + 1}: ${rowTitle(point.row)}, ${percent(point.y)}${data.rows[point.row].mark}`)));
    legend.append(make("span", { class: "note" }, `The dotted line joins the rows that no cheaper one reaches. ${missing ? `${missing} rows are left out: ${how}.` : ""}`));
  }
  for (const id of ["cost-key", "cost-group"]) $(id).addEventListener("input", cost);
  if (groups.length && !data.runs.some((run) => isNumber(run.gflops))) $("cost-key").value = "minutes";
  onWidth($("cost-plot"), cost);
  watchers.push(cost);

  // Folds
  for (const element of document.querySelectorAll(".fold-plot")) {
    const record = data.folds[Number(element.dataset.fold)];
    const kinds = Object.entries(record.kinds);
    const titles = { own: "each fold's own part", official: "val" };
    const redraw = () => {
      const values = kinds.flatMap(([, kind]) => [...kind.folds.map(([, value]) => value), kind.low, kind.high]).filter(isNumber).map((value) => 100 * value);
      if (!values.length) return;
      const plot = frame(element, { x: [Math.max(0, Math.min(...values) - 3), Math.min(100, Math.max(...values) + 3)], y: [0, kinds.length], xTitle: "mIoU, %: folds as dots, mean with 95 % interval as a line", yTitle: "", height: 70 + 46 * kinds.length });
      plot.svg.querySelectorAll("text[text-anchor=end]").forEach((text) => text.remove());
      kinds.forEach(([name, kind], index) => {
        const y = plot.toY(kinds.length - index - 0.5);
        plot.svg.append(make("text", { x: plot.box.left + 2, y: y - 12 }, `${titles[name]}${kind.mark}`));
        if (isNumber(kind.low)) plot.svg.append(make("line", { x1: plot.toX(100 * kind.low), x2: plot.toX(100 * kind.high), y1: y, y2: y, stroke: COLOURS[index], "stroke-width": 3 }));
        plot.svg.append(make("line", { x1: plot.toX(100 * kind.mean), x2: plot.toX(100 * kind.mean), y1: y - 8, y2: y + 8, stroke: COLOURS[index], "stroke-width": 3 }));
        for (const [fold, value] of kind.folds) plot.svg.append(make("circle", { cx: plot.toX(100 * value), cy: y, r: 4.5, fill: "var(--back)", stroke: COLOURS[index], "stroke-width": 2 }, make("title", {}, `fold ${fold}: ${percent(value)}`)));
      });
    };
    onWidth(element, redraw);
  }
})();
