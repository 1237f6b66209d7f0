// Loaded before the page is painted, so that the wrong theme is never visible. The system's theme is used until
// the user chooses one, which is stored.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  function remembered() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is switched off
    }
  }

  function apply() {
    root.dataset.theme = remembered() ?? (system.matches ? "dark" : "light");
    document.querySelector("#theme")?.setAttribute("aria-pressed", String(root.dataset.theme === "dark"));
    root.dispatchEvent(new Event("theme"));
  }

  function toggle() {
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("theme", theme);
      apply();
    } catch {
      root.dataset.theme = theme;
      root.dispatchEvent(new Event("theme"));
    }
  }

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector("#theme").addEventListener("click", toggle);
    apply();
  });
})();
