"use strict";
// The gallery holds rows as they were written and makes elements only for those in sight. Text goes
// in as text, addresses were checked when the page was written.
(() => {
  const KEY = 0, PROMPT = 1, KIND = 2, STANDING = 3, SECONDS = 4, AT = 5, MEDIA = 6, EXPIRES = 7,
    TASK = 8, NOTE = 9, REASON = 10, ASKED = 11, METADATA = 12, COMMANDS = 13;
  const GAP = 18, NARROWEST = 270, TEXT = 124, BEYOND = 1, SETTLE = 120;
  const byId = (id) => document.getElementById(id);
  const facts = JSON.parse(byId("facts").textContent);
  const rows = [];
  for (const block of document.querySelectorAll("script.rows")) {
    for (const row of JSON.parse(block.textContent)) rows.push(row);
    block.remove();
  }

  // Words
  const number = new Intl.NumberFormat("en");
  const named = (text) => text.replace("_", " ");
  const kindOf = (row) => facts.kinds[row[KIND]].filter(Boolean).join(" · ");
  const modeOf = (row) => facts.kinds[row[KIND]][1] || facts.kinds[row[KIND]][0];
  function lasting(seconds) {
    if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
    const whole = Math.round(seconds);
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  }
  const moment = (at) => `${new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;

  // Elements
  function made(tag, name, text) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  }
  const isRemote = (address) => /^https?:/.test(address);
  const isPicture = (address) => /\.(png|jpe?g|webp|gif|avif)([?#]|$)/i.test(address);
  const isGone = (row) => row[EXPIRES] !== null && row[EXPIRES] * 1000 <= Date.now();

  // A small film is covered by one button until it is played, so that nothing hides its picture.
  function covered(video) {
    const play = made("button", "play");
    play.type = "button";
    play.ariaLabel = "play";
    play.addEventListener("click", () => {
      for (const element of shown.values()) element.querySelector("video")?.pause();
      play.remove();
      video.controls = true;
      video.play().catch(() => {});
    });
    return play;
  }

  function player(row, address, { isLarge }) {
    if (isPicture(address) && !isRemote(address)) {
      const image = made("img");
      image.alt = "";
      image.loading = "lazy";
      image.src = address;
      return image;
    }
    const video = made("video");
    video.controls = isLarge;
    video.playsInline = true;
    video.loop = true;
    video.muted = !isLarge;
    // Nobody's server is asked before somebody presses play; a file on disk shows its first frame.
    video.preload = isRemote(address) ? "none" : "metadata";
    video.src = isRemote(address) ? address : `${address}#t=0.001`;
    video.addEventListener("error", () => {
      const why = isRemote(address) ? "This address does not answer any more." : "The file was moved, or cannot be played.";
      video.parentElement?.querySelector(".play")?.remove();
      video.replaceWith(made("p", "", why));
    });
    return video;
  }

  function emptyFilm(row) {
    const standing = facts.standings[row[STANDING]];
    if (standing !== "succeeded") return row[NOTE] || named(standing);
    if (row[EXPIRES] !== null && row[EXPIRES] <= facts.now) return "Its address has expired, and it was not saved.";
    return "There is no result to play.";
  }

  // The gallery
  const grid = byId("grid");
  const shown = new Map();
  let order = rows.map((_, at) => at);
  let columns = 1, width = NARROWEST, height = 1;

  function tile(at) {
    const row = rows[at], standing = facts.standings[row[STANDING]];
    const element = made("article", `tile ${standing}`);
    element.dataset.at = at;
    const film = made("div", "film");
    const hasMedia = row[MEDIA].length > 0 && !isGone(row);
    if (hasMedia) element.dataset.waits = "";
    else {
      element.classList.add("is-still");
      film.append(made("p", "", emptyFilm(row)));
    }
    const about = made("button", "about");
    about.type = "button";
    const prompt = made("span", "prompt", row[PROMPT] || kindOf(row));
    prompt.dir = "auto";
    const line = made("span", "facts");
    line.append(made("span", "dot"), made("span", "name", row[KEY]), made("span", "", modeOf(row)));
    if (row[SECONDS] !== null) line.append(made("span", "", lasting(row[SECONDS])));
    if (row[MEDIA].length > 1) line.append(made("span", "", `${row[MEDIA].length} videos`));
    about.append(prompt, line);
    about.addEventListener("click", () => open(at));
    element.append(film, about);
    return element;
  }

  function release(element) {
    const video = element.querySelector("video");
    if (video) {
      video.pause();
      video.removeAttribute("src");
      video.load();
    }
    element.remove();
  }

  function measure() {
    const room = grid.clientWidth;
    columns = Math.max(1, Math.floor((room + GAP) / (NARROWEST + GAP)));
    width = (room - GAP * (columns - 1)) / columns;
    height = Math.round((width * 9) / 16) + TEXT;
    grid.style.height = `${Math.max(0, Math.ceil(order.length / columns) * (height + GAP) - GAP)}px`;
  }

  function draw() {
    if (grid.offsetParent === null) return;
    const above = -grid.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / (height + GAP)) - BEYOND) * columns;
    const last = Math.max(0, Math.ceil((above + innerHeight) / (height + GAP)) + BEYOND) * columns;
    const wanted = new Map();
    for (let place = first; place < Math.min(last, order.length); place += 1) wanted.set(order[place], place);
    for (const [at, element] of shown) {
      if (!wanted.has(at)) {
        release(element);
        shown.delete(at);
      }
    }
    // In the page they stand as they are seen; one that is in its place stays, as moving it would stop it.
    let next = grid.firstElementChild;
    for (const [at, place] of wanted) {
      const element = shown.get(at) ?? tile(at);
      shown.set(at, element);
      if (element === next) next = next.nextElementSibling;
      else grid.insertBefore(element, next);
      const x = (place % columns) * (width + GAP), y = Math.floor(place / columns) * (height + GAP);
      element.style.cssText = `width:${width}px;height:${height}px;transform:translate(${x}px,${y}px)`;
    }
    settle();
  }

  // Films are opened when the page rests, so that scrolling past thousands opens none.
  let resting = 0;
  function settle() {
    clearTimeout(resting);
    resting = setTimeout(() => {
      for (const [at, element] of shown) {
        if (!("waits" in element.dataset)) continue;
        delete element.dataset.waits;
        const film = player(rows[at], rows[at][MEDIA][0], { isLarge: false });
        element.firstChild.append(film);
        if (film.tagName === "VIDEO") element.firstChild.append(covered(film));
      }
    }, SETTLE);
  }

  let isDue = false;
  function drawSoon() {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      draw();
    });
  }

  // Filters
  const search = byId("search"), outcome = byId("outcome"), kind = byId("kind"), sorting = byId("order");
  let reason = -1;
  function option(select, value, text) {
    const element = made("option", "", text);
    element.value = value;
    select.append(element);
  }
  const counts = facts.standings.map(() => 0), kinds = facts.kinds.map(() => 0);
  for (const row of rows) {
    counts[row[STANDING]] += 1;
    kinds[row[KIND]] += 1;
  }
  option(outcome, "", "all outcomes");
  facts.standings.forEach((name, at) => counts[at] && option(outcome, at, `${named(name)} (${number.format(counts[at])})`));
  option(kind, "", "all modes");
  facts.kinds.forEach((names, at) => option(kind, at, `${names.filter(Boolean).join(" · ")} (${number.format(kinds[at])})`));

  const texts = [];
  function textOf(at) {
    const row = rows[at];
    texts[at] ??= [row[KEY], row[PROMPT], row[TASK], row[NOTE], row[METADATA], kindOf(row)].join("\n").toLowerCase();
    return texts[at];
  }
  const ORDERS = {
    asked: null,
    latest: (a, b) => rows[b][AT] - rows[a][AT],
    longest: (a, b) => (rows[b][SECONDS] ?? -1) - (rows[a][SECONDS] ?? -1),
    shortest: (a, b) => (rows[a][SECONDS] ?? Infinity) - (rows[b][SECONDS] ?? Infinity),
  };

  function choose() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const where = outcome.value, which = kind.value;
    order = [];
    for (let at = 0; at < rows.length; at += 1) {
      const row = rows[at];
      if (where !== "" && row[STANDING] !== Number(where)) continue;
      if (which !== "" && row[KIND] !== Number(which)) continue;
      if (reason >= 0 && row[REASON] !== reason) continue;
      if (words.length && !words.every((word) => textOf(at).includes(word))) continue;
      order.push(at);
    }
    if (ORDERS[sorting.value]) order.sort(ORDERS[sorting.value]);
    const all = rows.length === 1 ? "1 job" : `${number.format(rows.length)} jobs`;
    byId("count").textContent = order.length === rows.length ? all : `${number.format(order.length)} of ${all}`;
    byId("nothing").hidden = order.length > 0;
    byId("reason").hidden = reason < 0;
    if (reason >= 0) byId("reason").firstChild.textContent = `Failed with ${facts.reasons[reason]}`;
    measure();
    draw();
  }
  function chooseFromTop() {
    const top = byId("videos").getBoundingClientRect().top + scrollY - 60;
    if (scrollY > top) scrollTo(0, top);
    choose();
  }
  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(chooseFromTop, 60);
  });
  for (const select of [outcome, kind, sorting]) select.addEventListener("change", chooseFromTop);
  document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
  function only(which) {
    reason = which;
    search.value = outcome.value = kind.value = "";
    go("videos");
    chooseFromTop();
  }
  byId("reason").querySelector("button").addEventListener("click", () => only(-1));

  // One job
  const detail = byId("detail"), inside = detail.querySelector("div");
  function fact(list, name, content) {
    if (content === null || content === "" || content === undefined) return;
    const value = made("dd");
    value.append(content);
    list.append(made("dt", "", name), value);
  }
  function link(address) {
    const anchor = made("a", "", decodeURI(address));
    anchor.href = address;
    anchor.rel = "noopener noreferrer";
    anchor.target = "_blank";
    return anchor;
  }
  function shownAddress(address) {
    try {
      return link(address);
    } catch {
      return address;
    }
  }
  function commandsOf(row) {
    const list = made("ul", "commands");
    for (const [does, line] of row[COMMANDS]) {
      const item = made("li", "command"), copy = made("button", "copy", "copy");
      copy.type = "button";
      item.append(made("span", "", does), made("code", "", line), copy);
      list.append(item);
    }
    return list;
  }
  function open(at) {
    const row = rows[at], standing = facts.standings[row[STANDING]];
    for (const element of shown.values()) element.querySelector("video")?.pause();
    inside.replaceChildren();
    detail.dataset.at = at;
    const films = made("div", "films");
    if (!isGone(row)) for (const address of row[MEDIA]) films.append(player(row, address, { isLarge: true }));
    inside.append(films);
    const text = made("div", "text"), words = made("p", "words", row[PROMPT]), list = made("dl");
    words.dir = "auto";
    fact(list, "job", row[KEY]);
    fact(list, "outcome", named(standing));
    fact(list, "why", row[NOTE]);
    fact(list, "asked of", kindOf(row));
    fact(list, "asked for", row[ASKED]);
    fact(list, "took", row[SECONDS] === null ? "" : lasting(row[SECONDS]));
    fact(list, "last step", moment(row[AT]));
    fact(list, "task", row[TASK]);
    for (const address of row[MEDIA]) fact(list, isRemote(address) ? "address" : "file", shownAddress(address));
    if (row[MEDIA].some(isRemote)) fact(list, "not saved, ends", moment(row[EXPIRES]));
    fact(list, "metadata", row[METADATA]);
    text.append(words, list);
    if (row[COMMANDS].length) text.append(commandsOf(row));
    inside.append(text);
    if (!detail.open) detail.showModal();
    detail.scrollTop = 0;
    const video = inside.querySelector("video");
    if (video && !isRemote(row[MEDIA][0])) video.play().catch(() => {});
  }
  detail.addEventListener("close", () => inside.replaceChildren());
  detail.querySelector(".close").addEventListener("click", () => detail.close());
  detail.addEventListener("click", (event) => event.target === detail && detail.close());
  detail.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || event.target.tagName === "VIDEO") return;
    const next = order[order.indexOf(Number(detail.dataset.at)) + step];
    if (next !== undefined) open(next);
  });

  // Parts
  const parts = [...document.querySelectorAll("main > section")];
  const tabs = [...document.querySelectorAll(".tabs a")];
  function show() {
    const here = parts.find((part) => `#${part.id}` === location.hash) ?? parts[0];
    for (const part of parts) part.hidden = part !== here;
    for (const tab of tabs) {
      const isHere = tab.hash === `#${here.id}`;
      tab.classList.toggle("is-here", isHere);
      if (isHere) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    if (here === parts[0]) {
      measure();
      draw();
    } else for (const element of shown.values()) element.querySelector("video")?.pause();
  }
  function go(part) {
    history.replaceState(null, "", `#${part}`);
    show();
  }
  for (const tab of tabs) {
    tab.addEventListener("click", (event) => {
      event.preventDefault();
      go(tab.hash.slice(1));
    });
  }

  // Small helps
  const hint = byId("hint"), told = byId("told");
  document.addEventListener("pointermove", (event) => {
    const mark = event.target.closest?.(".chart .mark-rect [aria-label]");
    hint.hidden = !mark;
    if (!mark) return;
    hint.textContent = mark.getAttribute("aria-label");
    const left = Math.min(event.clientX + 14, innerWidth - hint.offsetWidth - 8);
    hint.style.transform = `translate(${left}px,${event.clientY - 36}px)`;
  });
  function tell(text) {
    told.textContent = text;
    told.classList.add("is-on");
    setTimeout(() => told.classList.remove("is-on"), 1500);
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.matches(".copy")) {
      const line = button.parentElement.querySelector("code");
      getSelection().selectAllChildren(line);
      navigator.clipboard?.writeText(line.textContent).then(() => tell("copied"), () => tell("marked, to be copied"));
    } else if (button.matches(".show")) only(Number(button.dataset.reason));
    else if (button.matches(".job")) {
      event.preventDefault();
      const at = rows.findIndex((row) => row[KEY] === button.dataset.key);
      if (at >= 0) open(at);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, select, video") || detail.open) return;
    event.preventDefault();
    go("videos");
    search.focus();
  });
  addEventListener("scroll", drawSoon, { passive: true });
  addEventListener("hashchange", show);
  new ResizeObserver(() => {
    measure();
    drawSoon();
  }).observe(byId("videos"));
  show();
  choose();
})();
