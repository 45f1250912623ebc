// What a link leads into is opened; printing opens everything; every table and figure can be taken along.
const unfold = place => { for (let at = place; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true; };
const follow = () => { const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1))); if (place) { unfold(place); place.scrollIntoView(); } };
addEventListener("hashchange", follow);
addEventListener("beforeprint", () => document.querySelectorAll("details.fold").forEach(fold => { fold.open = true; }));
follow();

const textOf = cell => cell.innerText.trim().replace(/\s+/g, " ");
const csv = table => [...table.rows].map(row => [...row.cells].map(cell => `"${textOf(cell).replaceAll('"', '""')}"`).join(",")).join("\r\n");
const svg = figure => {
  const alone = figure.cloneNode(true), style = document.createElementNS("http://www.w3.org/2000/svg", "style");
  style.textContent = document.getElementById("figures")?.textContent ?? "";
  alone.prepend(style);
  return `<?xml version="1.0"?>${new XMLSerializer().serializeToString(alone)}`;
};
const headingOf = place => {
  const above = [...document.querySelectorAll("h1, h2, h3")].filter(head => head.compareDocumentPosition(place) & Node.DOCUMENT_POSITION_FOLLOWING);
  return (above.at(-1)?.innerText ?? "page").replace("¶", "").trim().replace(/\W+/g, "-").toLowerCase().slice(0, 60);
};
const offer = (place, word, kind, ending, content) => {
  const button = document.createElement("button");
  [button.className, button.type, button.textContent] = ["take", "button", word];
  button.setAttribute("aria-label", `Save this ${word === "CSV" ? "table" : "figure"} as ${word}`);
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content()], { type: kind }));
    link.download = `${headingOf(place)}.${ending}`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  (place.closest(".scroll, .output_html, .output_svg") ?? place).after(button);
};
document.querySelectorAll("main table").forEach(table => { if (!table.closest("footer, .contract")) offer(table, "CSV", "text/csv", "csv", () => csv(table)); });
document.querySelectorAll("main svg[role=img]").forEach(figure => { if (!figure.closest(".planner")) offer(figure, "SVG", "image/svg+xml", "svg", () => svg(figure)); });
