// The table of runs: sorts, filters, chooses what is drawn, and saves what is shown.
(() => {
  const table = $("runs-table");
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells].slice(1);
  const rows = [...body.rows];
  const texts = new Map(rows.map((row) => [row, row.innerText.toLowerCase()]));

  function sort(column, descending) {
    const key = (row) => row.cells[column + 1].dataset.value;
    const isNumeric = rows.some((row) => row.cells[column + 1].classList.contains("number"));
    const order = (first, second) => {
      const [a, b] = [key(first), key(second)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const sign = isNumeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
      return descending ? -sign : sign;
    };
    rows.sort(order);
    body.append(...rows);
    headers.forEach((header, index) => header.setAttribute("aria-sort", index !== column ? "none" : descending ? "descending" : "ascending"));
  }

  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const isText = !rows.some((row) => row.cells[column + 1].classList.contains("number"));
      const now = header.getAttribute("aria-sort");
      sort(column, now === "none" ? !isText : now === "ascending");
    });
  });

  function filter() {
    const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const group = $("filter-images").value;
    const onlyOwn = $("filter-own").checked;
    let shown = 0;
    for (const row of rows) {
      const fits = words.every((word) => texts.get(row).includes(word)) && (!group || row.dataset.group === group) && (!onlyOwn || row.dataset.own === "1");
      row.hidden = !fits;
      shown += fits;
    }
    $("filter-count").textContent = `${shown} of ${rows.length} rows`;
  }

  for (const id of ["filter", "filter-images", "filter-own"]) $(id).addEventListener("input", filter);

  function paint() {
    for (const row of rows) {
      const index = Number(row.dataset.row);
      row.querySelector("input").checked = drawn.has(index);
      row.cells[0].style.setProperty("border-left-color", drawn.has(index) ? lineStyle(index).stroke : "transparent");
    }
  }

  for (const row of rows) {
    row.querySelector("input").addEventListener("change", (event) => {
      draw(Number(row.dataset.row), event.target.checked);
      refresh();
    });
  }

  /** The cells of the rows that are shown, in their order, under their titles. */
  function shownCells() {
    const titles = headers.map((header) => header.innerText.trim());
    return [titles, ...rows.filter((row) => !row.hidden).map((row) => [...row.cells].slice(1).map((cell) => cell.innerText.trim()))];
  }

  function save(name, text) {
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: name });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  window.asCsv = () => shownCells().map((cells) => cells.map((cell) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)).join(",")).join("\n") + "\n";
  window.asMarkdown = () => {
    const [titles, ...others] = shownCells().map((cells) => cells.map((cell) => cell.replace(/[|<]/g, "\\$&")));
    return [titles, titles.map((_, index) => (index ? "--:" : "---")), ...others].map((cells) => `| ${cells.join(" | ")} |`).join("\n") + "\n";
  };
  $("save-csv").addEventListener("click", () => save("runs.csv", window.asCsv()));
  $("save-markdown").addEventListener("click", () => save("runs.md", window.asMarkdown()));

  watchers.push(paint);
  const miou = headers.findIndex((header) => header.innerText.trim().startsWith("mIoU"));
  sort(miou, true);
  filter();
  // At first the best six on the same images: more lines are hard to tell apart.
  const fitting = rows.filter((row) => row.dataset.own === "1" && (!groups.length || row.dataset.group === groups[0]));
  (fitting.length ? fitting : rows).slice(0, 6).forEach((row) => draw(Number(row.dataset.row), true));
})();
