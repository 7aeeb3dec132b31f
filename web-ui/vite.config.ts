import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';
import type { Plugin } from 'vite';

/**
 * KaTeX lists each font as woff2, woff and ttf. Every browser this page runs in reads woff2,
 * so the other two (0.8 MB) are taken out of its style sheet and never reach dist.
 */
function woff2Only(): Plugin {
  return {
    name: 'wels:woff2-only',
    enforce: 'pre',
    transform(code, id) {
      if (!/katex[^?]*\.css/.test(id)) return null;
      return code.replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\("[^"]*"\)/g, '');
    },
  };
}

/** Where the API lives while developing: a running daemon, or the mock server (`npm run mock`). */
const api = process.env.WELS_API ?? 'http://127.0.0.1:8787';

export default defineConfig({
  plugins: [woff2Only(), svelte()],
  build: {
    target: 'es2022',
    // The page's content security policy allows neither inline scripts nor data: fonts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    manifest: true,
  },
  server: { port: 5173, proxy: { '/api': api } },
  resolve: process.env.VITEST ? { conditions: ['browser'] } : {},
  test: { include: ['tests/**/*.test.ts'], environment: 'jsdom' },
});
