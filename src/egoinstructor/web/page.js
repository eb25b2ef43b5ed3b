// What Gradio's own parts leave out for screen readers. The page works without it.
(() => {
  "use strict";
  document.documentElement.lang = "en";
  const mend = () => {
    for (const part of document.querySelectorAll(".live")) {
      part.setAttribute("aria-live", "polite");
      part.setAttribute("aria-busy", String(part.querySelector(".writing") !== null));
    }
    for (const part of document.querySelectorAll(".alerts")) part.setAttribute("role", "alert");
  };
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mend(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
})();

// Gradio's server closes its stream of answers after the last one. What the page asks for before it has heard of that is
// answered on no stream, and shown only when something else opens the next. So Gradio's client hears that something is
// queued only when the stream has told of it, or has been closed.
(() => {
  "use strict";
  const ask = window.fetch;
  let stream = null;

  const listen = async (body, here) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const lines = (rest + part.value).split("\n");
      rest = lines.pop();
      for (const line of lines.filter((line) => line.startsWith("data:"))) here.told.add(JSON.parse(line.slice(5)).event_id);
      here.dispatchEvent(new Event("news"));
    }
  };

  window.fetch = async (target, options) => {
    const path = new URL(target.url ?? target, document.baseURI).pathname;
    if (path.endsWith("/queue/data")) {
      const here = Object.assign(new EventTarget(), { told: new Set(), over: false });
      const end = () => { here.over = true; here.dispatchEvent(new Event("news")); };
      stream = here;
      target.signal.addEventListener("abort", end); // by Gradio's client, when it has heard that this was the last answer
      const response = await ask(target, options).catch((failed) => { end(); throw failed; });
      if (!response.ok) {
        end();
        return response;
      }
      const [theirs, ours] = response.body.tee();
      listen(ours, here).catch(end); // a broken connection, of which Gradio's client tells
      return new Response(theirs, response);
    }
    const response = await ask(target, options);
    if (path.endsWith("/queue/join") && response.ok && stream) {
      const here = stream;
      const { event_id: id } = await response.clone().json();
      while (!here.over && !here.told.has(id)) {
        await new Promise((go) => here.addEventListener("news", go, { once: true }));
      }
    }
    return response;
  };
})();
