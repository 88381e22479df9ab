// Keeps the page up to date. What it cannot keep up to date it says is old.
(() => {
  "use strict";
  const SILENCE = 5000; // Updates come each second.
  const RETRY = 4000;
  const byId = (id) => document.getElementById(id);
  const body = document.body;
  let heard = Date.now();
  let source = null;
  let retry = 0;

  // Changes what differs, and leaves alone what a person may have opened, selected or scrolled.
  const morph = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name, value } of [...fresh.attributes]) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    children(old, fresh);
  };
  const children = (old, fresh) => {
    const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
    after.forEach((node, place) => (place < before.length ? morph(before[place], node) : old.append(node)));
    before.slice(after.length).forEach((node) => node.remove());
  };

  const show = (update) => {
    if (update.version !== body.dataset.version) return location.reload();
    for (const [id, html] of Object.entries(update.parts)) {
      const template = document.createElement("template");
      template.innerHTML = html;
      if (byId(id)) children(byId(id), template.content);
    }
    document.title = update.title;
    heard = Date.now();
    body.dataset.live = "yes";
    byId("state").textContent = "Live,";
    byId("lost").hidden = true;
  };

  const lose = () => {
    if (body.dataset.live === "lost") return;
    body.dataset.live = "lost";
    byId("state").textContent = "Not live, as of";
    byId("lost").textContent =
      `The connection to the agent is lost. What you see is as of ${byId("clock").textContent} ` +
      "and may have changed since. It is tried again.";
    byId("lost").hidden = false;
    document.title = "Not live: tallyman";
  };

  const listen = () => {
    clearTimeout(retry);
    if (source) source.close();
    source = new EventSource("api/events");
    source.onmessage = (message) => show(JSON.parse(message.data));
    source.onerror = () => {
      lose();
      source.close();
      clearTimeout(retry);
      retry = setTimeout(listen, RETRY);
    };
  };

  setInterval(() => {
    if (Date.now() - heard > SILENCE) lose();
    if (Date.now() - heard > 4 * SILENCE) {
      heard = Date.now() - SILENCE - 1;
      listen();
    }
  }, 1000);
  // A page that comes back out of the browser's cache, or out of sleep, shows what was then.
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      lose();
      listen();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && Date.now() - heard > SILENCE) lose();
  });
  listen();
})();
