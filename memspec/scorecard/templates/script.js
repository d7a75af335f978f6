(() => {
  const $ = (q, root = document) => [...root.querySelectorAll(q)];
  document.documentElement.classList.add("scripted");
  const data = JSON.parse(document.getElementById("memories")?.textContent || "{}");

  // contents: open beside the page, folded above it
  const contents = document.querySelector("nav > details");
  if (contents && matchMedia("(max-width: 1149px)").matches) contents.open = false;

  // a link into what is folded opens it
  const reveal = () => {
    const goal = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!goal) return;
    for (let up = goal; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
    goal.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  // copy buttons
  for (const button of $(".copy")) button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("pre").textContent;
    try { await navigator.clipboard.writeText(text); } catch {  // a page opened from a file may not
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });

  // sortable tables: the heading's button; numbers from data-v, missing ones last
  const sort = (table, index, way) => {
    const body = table.tBodies[0], rows = [...body.rows];
    const value = row => { const cell = row.cells[index]; const v = cell?.dataset.v ?? cell?.textContent.trim() ?? ""; return v === "" ? null : isNaN(v) ? v : +v; };
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === null || y === null) return (x === null) - (y === null);
      return (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y))) * way;
    });
    body.append(...rows);
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => { if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", i === index ? (way > 0 ? "ascending" : "descending") : "none"); });
  };
  const show = (table, index) => {
    $(".shown", table).forEach(cell => cell.classList.remove("shown"));
    for (const row of [table.tHead.rows[0], ...table.tBodies[0].rows]) row.cells[index].classList.add("shown");
  };
  for (const table of $("table.sortable")) $("th button", table).forEach(button => button.addEventListener("click", () => {
    const head = button.closest("th"), now = head.getAttribute("aria-sort"), first = +(head.dataset.first || 1);
    sort(table, head.cellIndex, now === "none" ? first : now === "ascending" ? -1 : 1);
  }));
  for (const choice of $("select.by")) choice.addEventListener("change", () => {
    const table = document.getElementById(choice.dataset.table), index = +choice.value, head = table.tHead.rows[0].cells[index];
    sort(table, index, +(head.dataset.first || 1));
    show(table, index);
  });

  // search: what does not hold all words is hidden, what does is unfolded
  const box = document.getElementById("find"), found = document.getElementById("found"), were = new Map();
  box?.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const items = $("[data-find]");
    let hits = 0;
    for (const item of items) {
      const text = `${item.dataset.find} ${item.textContent}`.toLowerCase();
      item.hidden = words.length > 0 && !words.every(word => text.includes(word));
      hits += !item.hidden;
    }
    for (const fold of $("main details")) {
      if (!$("[data-find]", fold).length) continue;
      if (!were.has(fold)) were.set(fold, fold.open);
      const some = $("[data-find]", fold).some(item => !item.hidden) || (fold.dataset.find !== undefined && !fold.hidden);
      fold.open = words.length ? some : were.get(fold);
      if (fold.dataset.find === undefined) fold.hidden = words.length > 0 && !some;
    }
    if (!words.length) were.clear();
    found.textContent = words.length ? `${hits} of ${items.length}` : "";
  });

  // which memories are shown in colour: twelve at most
  const MOST = {{ PICKS }}, picks = new Map(), style = document.getElementById("picked");
  const swatch = '<svg class="plot" viewBox="0 0 26 11" aria-hidden="true"><path class="l pts" d="M2 5.5H13H24"/></svg>';
  const paint = () => {
    style.textContent = [...picks].map(([m, p]) => `.m${m}{--c:var(--p${p});--w:1.8;--o:1;--d:inline;--k:url(#k${p})}`).join("\n");
    for (const plot of $("main svg.plot:not(.heat)")) for (const m of picks.keys()) plot.querySelectorAll(`:scope > g.m${m}`).forEach(g => plot.append(g));
    for (const list of $(".picks ul")) {
      list.replaceChildren(...[...picks.keys()].map(m => {
        const item = document.createElement("li");
        item.className = `m${m}`; item.innerHTML = swatch; item.append(data.names[m]);
        return item;
      }));
    }
    for (const pick of $(".pick")) { pick.checked = picks.has(+pick.value); pick.disabled = !pick.checked && picks.size >= MOST; }
  };
  if (style && data.picked && data.names.length > MOST) {
    data.picked.forEach((m, p) => picks.set(m, p));
    for (const pick of $(".pick")) pick.addEventListener("change", () => {
      const free = [...Array(MOST).keys()].find(p => ![...picks.values()].includes(p));
      if (pick.checked && free !== undefined) picks.set(+pick.value, free); else picks.delete(+pick.value);
      paint();
    });
    paint();
  }

  // what is under the pointer
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  document.body.append(tip);
  let hot = null;
  addEventListener("pointermove", event => {
    const group = event.target.closest?.("svg.plot > g"), mark = event.target.closest?.("[data-tip]");
    if (hot !== group) { hot?.classList.remove("hot"); hot = group; hot?.classList.add("hot"); }
    const text = mark ? mark.dataset.tip : group && data.names?.length > 1 ? data.names[+group.getAttribute("class").match(/m(\d+)/)[1]] : "";
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY + 16}px`;
  });
})();
