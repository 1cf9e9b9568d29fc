"use strict";
(() => {
  const kinds = [...document.querySelectorAll(".kind")];
  const form = document.querySelector("form.filter");
  const open = () => {
    const named = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (named && named.tagName === "DETAILS") {
      named.hidden = false;
      named.open = true;
      named.scrollIntoView();
    }
  };
  if (form) {
    const texts = new Map();
    const text = (kind) => {
      if (!texts.has(kind)) texts.set(kind, `${kind.id} ${kind.textContent}`.toLowerCase());
      return texts.get(kind);
    };
    const apply = () => {
      const wanted = [...new FormData(form)].filter(([, value]) => value.trim());
      let shown = 0;
      for (const kind of kinds) {
        kind.hidden = !wanted.every(([name, value]) =>
          name === "q" ? value.toLowerCase().split(/\s+/).every((word) => text(kind).includes(word)) : kind.dataset[name] === value);
        shown += !kind.hidden;
      }
      form.querySelector("output").textContent = `${shown.toLocaleString("en")} of ${kinds.length.toLocaleString("en")} kinds`
        + (form.dataset.total ? ` on this page, ${form.dataset.total} in all` : "");
      document.querySelector(".none").hidden = shown > 0;
    };
    for (const [name, value] of new URLSearchParams(location.search)) {
      const field = form.elements.namedItem(name);
      if (field) field.value = value;
    }
    form.addEventListener("input", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    apply();
  }
  window.addEventListener("hashchange", open);
  open();
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const each of closed) each.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
  });
})();
