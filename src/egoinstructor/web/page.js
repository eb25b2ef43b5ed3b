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
