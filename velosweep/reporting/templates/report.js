"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("figures").textContent);
  const drawn = new Set();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const printing = matchMedia("print");
  const phone = matchMedia("(max-width: 40rem)");
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  // Colours are the style sheet's: a string "--name" in a chart stands for that property.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = (value) => {
    if (typeof value === "string") return /^--[a-z0-9]+$/.test(value) ? colour(value) || value : value;
    if (Array.isArray(value)) return typeof value[0] === "number" && typeof value[value.length - 1] !== "string" ? value : value.map(themed);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v)]));
    return value;
  };

  const layoutFor = (chart, width) => {
    const narrow = width < 560;
    const base = {
      autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--text"), family: "system-ui, 'DejaVu Sans', sans-serif", size: narrow ? 11 : 13 },
      margin: { l: 48, r: 16, t: 24, b: 44 }, hoverlabel: { align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--link") },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: narrow ? 10 : 12 } },
    };
    const layout = { ...base, ...themed(chart.layout) };
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      layout[key] = { gridcolor: colour("--grid"), zerolinecolor: colour("--line"), linecolor: colour("--line"),
        tickcolor: colour("--line"), ...layout[key] };
    }
    return layout;
  };

  // Plotly lies in the page as base64 of gzip.
  const unpack = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (letter) => letter.charCodeAt(0));
    const script = document.createElement("script");
    script.text = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(script);
  };
  const unpacked = unpack().catch(() => {
    document.querySelectorAll(".plot .wait").forEach((box) => { box.textContent = "The plots need a browser of 2023 or later."; });
    throw new Error("no plots: this browser can't unpack them");
  });

  const draw = (id) => unpacked.then(() => {
    const box = document.getElementById("plot-" + id);
    const chart = charts[id];
    if (!box || !chart) return;
    box.querySelector(".wait")?.remove();
    // On a phone the buttons would lie on the legend, and fingers need none of them.
    const config = { responsive: true, displaylogo: false, displayModeBar: phone.matches ? false : "hover", modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
      toImageButtonOptions: { format: "svg", filename: "velosweep-" + id } };
    Plotly.react(box, themed(chart.data), layoutFor(chart, box.clientWidth), config);
    drawn.add(id);
  });

  const redraw = () => drawn.forEach(draw);
  dark.addEventListener("change", redraw);
  phone.addEventListener("change", redraw);
  const all = () => Object.keys(charts).forEach(draw);
  addEventListener("beforeprint", () => { document.querySelectorAll("details").forEach((d) => { d.open = true; }); all(); });
  printing.addEventListener("change", all);

  // Charts out of sight are drawn when they come near, so that a long report opens at once.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target.id.slice(5)); }
    }
  }, { rootMargin: "600px" });
  document.querySelectorAll(".plot").forEach((box) => near.observe(box));

  // Tables that hide columns say so.
  const fits = new ResizeObserver((entries) => {
    for (const { target } of entries) target.previousElementSibling.hidden = target.scrollWidth <= target.clientWidth;
  });
  document.querySelectorAll(".scroll").forEach((box) => fits.observe(box));

  // Sorting: numbers by data-v, else the text; the order goes round ascending, descending.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const raw = cell.dataset.v ?? cell.textContent.trim();
    const number = Number(raw);
    return raw === "" ? null : Number.isNaN(number) ? raw : number;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  };
  document.querySelectorAll("table.sortable th button").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const table = head.closest("table");
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const column = head.cellIndex;
      const rows = Array.from(body.rows, (row) => [valueOf(row, column), row]);
      rows.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : down ? compare(b, a) : compare(a, b)));
      body.append(...rows.map(([, row]) => row));
      document.getElementById("said").textContent =
        `Sorted by ${button.textContent.trim()}, ${down ? "descending" : "ascending"}`;
    });
  });

  document.querySelectorAll("button.copy").forEach((button) => {
    button.addEventListener("click", async () => {
      const pre = button.parentElement.querySelector("pre");
      try {
        await navigator.clipboard.writeText(pre.textContent);
        button.textContent = "Copied";
      } catch {
        // A page opened from a file may not reach the clipboard: select it for the person's own copy.
        getSelection().selectAllChildren(pre);
        button.textContent = "Selected: press Ctrl+C";
      }
    });
  });
  if (still.matches) document.documentElement.style.scrollBehavior = "auto";
})();
