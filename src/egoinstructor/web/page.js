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

// Gradio's server ends its stream of answers after the last one. What the page asks for before Gradio's client has heard of
// that is answered on no stream, and shown only when something else opens the next. So its client gets one stream that
// doesn't end, on which the server's are heard one after the other for as long as an answer is missing.
(() => {
  "use strict";
  const ask = window.fetch;
  const missing = new Set(); // events whose answer is to come
  const early = new Set(); // events that were answered before the page had heard of their number
  let listen = () => {}; // to the server's next stream, unless one is being heard

  const pass = async (body, answers) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const encoder = new TextEncoder();
    let rest = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const told = (rest + part.value).split("\n\n");
      rest = told.pop();
      for (const one of told) {
        const { msg, event_id: id } = JSON.parse(one.slice("data:".length));
        if (msg === "close_stream") continue;
        if (msg === "process_completed" && !missing.delete(id)) early.add(id);
        answers.enqueue(encoder.encode(`${one}\n\n`));
      }
    }
  };

  const hear = (request, answers) => {
    let hearing = false;
    return async () => {
      if (hearing) return;
      hearing = true;
      try {
        do {
          const response = await ask(request.clone());
          if (!response.ok) throw new Error(`No answers: ${response.status} ${response.statusText}`);
          await pass(response.body, answers);
        } while (missing.size);
      } catch (failed) {
        answers.error(failed); // Gradio's client tells the visitor
      }
      hearing = false;
    };
  };

  window.fetch = async (target, options) => {
    const { pathname } = new URL(target.url ?? target, document.baseURI);
    if (pathname.endsWith("/queue/data")) {
      const request = new Request(target, options);
      const answers = new ReadableStream({ start: (stream) => { listen = hear(request, stream); } });
      listen();
      return new Response(answers, { headers: { "Content-Type": "text/event-stream" } });
    }
    const response = await ask(target, options);
    if (pathname.endsWith("/queue/join") && response.ok) {
      const { event_id: id } = await response.clone().json();
      if (!early.delete(id)) {
        missing.add(id);
        listen();
      }
    }
    return response;
  };
})();
