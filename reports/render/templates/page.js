"use strict";
(() => {
  // Charts: drawn when they come near the window, so that a page with many opens at once.
  const specs = document.getElementById("specs");
  if (specs) {
    const all = JSON.parse(specs.textContent);
    const options = { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false }, loader: { target: "_blank", rel: "noopener" } };
    const draw = (place) => {
      if (place.dataset.drawn) return Promise.resolve();
      place.dataset.drawn = "1";
      return vegaEmbed(place, all[place.dataset.chart], options).then(() =>
        place.querySelector("summary")?.setAttribute("aria-label", "Save this chart"));
    };
    const places = [...document.querySelectorAll(".chart")];
    const seen = new IntersectionObserver(
      (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => { seen.unobserve(e.target); draw(e.target); }),
      { rootMargin: "400px" });
    places.forEach((place) => seen.observe(place));
    window.addEventListener("beforeprint", () => places.forEach(draw));
  }

  // Notes are folded on a screen and open on paper.
  const notes = [...document.querySelectorAll("details.notes")];
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = notes.filter((note) => !note.open);
    opened.forEach((note) => { note.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach((note) => { note.open = false; }));

  // What a cell is sorted by: its first number, else its text; a dash comes last.
  const key = (shown) => {
    const text = shown.replace(/[†‡]/, "");
    const found = text.replace(/−/g, "-").match(/^[^\d-]*(-?\d+(\.\d+)?(e[+-]?\d+)?)/i);
    if (text.trim() === "–" || text.trim() === "") return null;
    return found && !/[a-z]/i.test(text.slice(0, found.index + found[0].length).replace(/e[+-]?\d+$/i, ""))
      ? parseFloat(found[1]) - (text.includes("<") ? 1e-9 : 0) : text;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };

  // Rows between two headings of groups, which stay where they are.
  const groups = (body) => {
    const found = [[]];
    for (const row of body.rows) row.classList.contains("section") ? found.push([]) : found.at(-1).push(row);
    return found.filter((rows) => rows.length);
  };

  const sortable = (table) => {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        for (const rows of groups(table.tBodies[0])) {
          const after = rows.at(-1).nextSibling;
          const keyed = rows.map((row) => [key(row.cells[place].textContent), row]);
          const known = keyed.filter(([k]) => k !== null).sort((a, b) => compare(a[0], b[0]) * (down ? -1 : 1));
          [...known, ...keyed.filter(([k]) => k === null)].forEach(([, row]) => table.tBodies[0].insertBefore(row, after));
        }
      });
    });
    return headings;
  };

  document.querySelectorAll(".table-box").forEach((box) => {
    const table = box.querySelector("table");
    const headings = sortable(table);
    const tools = document.createElement("div");
    tools.className = "tools";
    if (table.tBodies[0].rows.length > 10) {
      const filter = document.createElement("input");
      filter.type = "search";
      filter.placeholder = "Filter rows";
      filter.setAttribute("aria-label", "Filter rows");
      filter.addEventListener("input", () => {
        const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
        for (const rows of groups(table.tBodies[0])) for (const row of rows)
          row.hidden = !words.every((word) => [...row.cells].some((cell) => cell.textContent.toLowerCase().includes(word)));
      });
      tools.append(filter);
    }
    if (headings.length > 4) {
      const menu = document.createElement("details");
      const list = document.createElement("div");
      list.className = "columns";
      headings.forEach((heading, place) => {
        const label = document.createElement("label");
        const tick = document.createElement("input");
        tick.type = "checkbox";
        tick.checked = true;
        tick.addEventListener("change", () => {
          for (const row of table.rows)
            if (row.cells.length === headings.length) row.cells[place].hidden = !tick.checked;
        });
        label.append(tick, ` ${heading.textContent.replace(/\s+/g, " ")}`);
        list.append(label);
      });
      menu.append(Object.assign(document.createElement("summary"), { textContent: "Columns" }), list);
      tools.append(menu);
    }
    if (tools.children.length) box.querySelector(".scroll").before(tools);
  });
})();
