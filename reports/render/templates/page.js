"use strict";
(() => {
  // A chart is drawn only when it is near the window, so that a page with many charts opens quickly.
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
    const observer = new IntersectionObserver(
      (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => { observer.unobserve(e.target); draw(e.target); }),
      { rootMargin: "400px" });
    places.forEach((place) => observer.observe(place));
    window.addEventListener("beforeprint", () => places.forEach(draw));
  }

  // Notes are folded on a screen and open on paper.
  const notes = [...document.querySelectorAll("details.notes")];
  let foldedNotes = [];
  window.addEventListener("beforeprint", () => {
    foldedNotes = notes.filter((note) => !note.open);
    foldedNotes.forEach((note) => { note.open = true; });
  });
  window.addEventListener("afterprint", () => foldedNotes.forEach((note) => { note.open = false; }));

  // Sort key of a cell: its first number, else its text; null for a dash, which comes last.
  const sortKey = (cellText) => {
    const text = cellText.replace(/[†‡]/, "");
    const match = text.replace(/−/g, "-").match(/^[^\d-]*(-?\d+(\.\d+)?(e[+-]?\d+)?)/i);
    if (text.trim() === "–" || text.trim() === "") return null;
    return match && !/[a-z]/i.test(text.slice(0, match.index + match[0].length).replace(/e[+-]?\d+$/i, ""))
      ? parseFloat(match[1]) - (text.includes("<") ? 1e-9 : 0) : text;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };

  // Rows of each section. The headings of sections are left out, because they are not sorted.
  const sections = (body) => {
    const lists = [[]];
    for (const row of body.rows) row.classList.contains("section") ? lists.push([]) : lists.at(-1).push(row);
    return lists.filter((rows) => rows.length);
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
        for (const rows of sections(table.tBodies[0])) {
          const after = rows.at(-1).nextSibling;
          const keyed = rows.map((row) => [sortKey(row.cells[place].textContent), row]);
          const sorted = keyed.filter(([key]) => key !== null).sort((a, b) => compare(a[0], b[0]) * (down ? -1 : 1));
          [...sorted, ...keyed.filter(([key]) => key === null)].forEach(([, row]) => table.tBodies[0].insertBefore(row, after));
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
        for (const rows of sections(table.tBodies[0])) for (const row of rows)
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
