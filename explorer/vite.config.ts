import preact from "@preact/preset-vite";
import { defineConfig } from "vite";

// The built page is part of the Python package, so that users need no Node. `make page` writes it.
export default defineConfig({
  base: "./",
  plugins: [preact()],
  build: {
    outDir: "../workflow/tidalkin/explorer/page",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the Content-Security-Policy allows no inline script
    modulePreload: { polyfill: false },
    rolldownOptions: {
      // Fixed names, so that a new build is a small change; the server sends an ETag.
      output: { entryFileNames: "assets/page.js", assetFileNames: "assets/page[extname]" },
    },
  },
});
