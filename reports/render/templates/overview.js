"use strict";
(() => {
  const form = document.getElementById("filters");
  const studies = [...document.querySelectorAll(".study")];
  const filter = () => {
    const query = new FormData(form);
    const words = query.get("text").toLowerCase().split(/\s+/).filter(Boolean);
    query.delete("text");
    for (const study of studies) {
      const text = study.textContent.toLowerCase();
      study.hidden = !words.every((word) => text.includes(word)) ||
        ![...query].every(([name, value]) => !value || JSON.parse(study.dataset[name]).includes(value));
    }
    const shown = studies.filter((study) => !study.hidden).length;
    form.querySelector("output").textContent = shown < studies.length ? `${shown} of ${studies.length}` : "";
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
})();
