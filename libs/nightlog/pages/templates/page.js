"use strict";
(() => {
  const findings = [...document.querySelectorAll(".item")];
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
    const text = (finding) => {
      if (!texts.has(finding)) texts.set(finding, `${finding.id} ${finding.textContent}`.toLowerCase());
      return texts.get(finding);
    };
    const apply = () => {
      const wanted = [...new FormData(form)].filter(([, value]) => value.trim());
      let shown = 0;
      for (const finding of findings) {
        finding.hidden = !wanted.every(([name, value]) =>
          name === "q" ? value.toLowerCase().split(/\s+/).every((word) => text(finding).includes(word)) : finding.dataset[name].split(" ").includes(value));
        shown += !finding.hidden;
      }
      form.querySelector("output").textContent = `${shown.toLocaleString("en")} of ${findings.length.toLocaleString("en")} ${form.dataset.noun}`
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
  // The label of a button is its style's: the filter searches the text of findings.
  const copied = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
  };
  for (const code of document.querySelectorAll(".command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.setAttribute("aria-label", `Copy the command ${code.textContent}`);
    button.addEventListener("click", async () => {
      await copied(code);
      button.classList.add("done");
      setTimeout(() => button.classList.remove("done"), 2000);
    });
    code.after(button);
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
