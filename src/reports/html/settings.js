// The difference of two configurations, by dotted key.
(() => {
  const flatten = (node, prefix, found) => {
    if (node !== null && typeof node === "object" && !Array.isArray(node) && Object.keys(node).length) {
      for (const [key, value] of Object.entries(node)) flatten(value, prefix ? `${prefix}.${key}` : key, found);
    } else found[prefix] = typeof node === "string" ? node : JSON.stringify(node);
    return found;
  };
  const runs = data.runs.map((run, index) => [index, run.name]);
  const [first, second] = [...drawn.keys()].map((row) => data.rows[row].run);
  fillSelect($("settings-a"), runs, first ?? 0);
  fillSelect($("settings-b"), runs, second ?? Math.min(1, runs.length - 1));

  function show() {
    const [a, b] = ["settings-a", "settings-b"].map((id) => flatten(data.runs[Number($(id).value)].config, "", {}));
    const part = $("settings-filter").value.trim().toLowerCase();
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
    const differing = keys.filter((key) => a[key] !== b[key]);
    const shown = ($("settings-all").checked ? keys : differing).filter((key) => key.toLowerCase().includes(part));
    $("settings-table").tBodies[0].replaceChildren(
      ...shown.map((key) => make("tr", {}, make("td", {}, a[key] === b[key] ? key : make("strong", {}, key)), make("td", {}, a[key] ?? "(no such key)"), make("td", {}, b[key] ?? "(no such key)"))),
    );
    $("settings-count").textContent = `${differing.length} of ${keys.length} keys differ. Left out are the parts that repeat others (task, datamodule), callbacks, loggers and the place of the run.`;
  }
  for (const id of ["settings-a", "settings-b", "settings-filter", "settings-all"]) $(id).addEventListener("input", show);
  show();
  refresh();
})();
