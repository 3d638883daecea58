// What every page has to bear: the accessibility rules, no complaint of the browser, and a look at it in three shapes.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const SHAPES = {
  light: { colorScheme: 'light', width: 1024, height: 720 },
  dark: { colorScheme: 'dark', width: 1024, height: 720 },
  phone: { colorScheme: 'light', width: 360, height: 640 },
};

/** Counts what holds and what does not, and says so as it goes. */
export class Inspector {
  #folder;
  #passed = 0;
  #failures = [];
  #complaints = [];

  constructor(folder) {
    this.#folder = folder;
  }

  /** What the browser has to say about a page of that origin, and about its policy, is a failure. */
  listen(page, origin) {
    const ours = () => page.url().startsWith(`${origin}/`) || page.url().startsWith('file:');
    page.on('console', (message) => {
      if (!['error', 'warning'].includes(message.type()) || !ours()) return;
      // An answer that is no success is what some pages are about.
      if (/^Failed to load resource: the server responded with a status of/.test(message.text())) return;
      this.#complaints.push(`${new URL(page.url()).pathname}: ${message.text()}`);
    });
    page.on('pageerror', (error) => ours() && this.#complaints.push(`${page.url()}: ${error}`));
  }

  check(what, holds, found = '') {
    if (holds) this.#passed += 1;
    else this.#failures.push(`${what}: ${found}`);
    console.log(`${holds ? 'ok' : 'FAILED'} ${what}${holds ? '' : `: ${found}`}`);
  }

  /** Looks at the page that is open: in light, in dark, and as wide as a phone. */
  async look(page, name) {
    const found = [];
    for (const [shape, { colorScheme, width, height }] of Object.entries(SHAPES)) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      if (wide > width) found.push(`${shape}: ${wide} pixels wide`);
      // A world of its own, which the page's policy does not reach.
      const session = await page.context().newCDPSession(page);
      const { frameTree } = await session.send('Page.getFrameTree');
      const world = await session.send('Page.createIsolatedWorld', { frameId: frameTree.frame.id });
      const { result, exceptionDetails } = await session.send('Runtime.evaluate', {
        contextId: world.executionContextId,
        expression: `${axe};axe.run().then(({ passes, violations }) => passes.length < 10
          ? ['the rules did not run']
          : violations.map(({ id, nodes }) => id + ' ' + nodes.map(({ html }) => html.slice(0, 120)).join(' | ')))`,
        awaitPromise: true,
        returnByValue: true,
      });
      await session.detach();
      if (exceptionDetails) found.push(`${shape}: ${exceptionDetails.exception?.description}`);
      else found.push(...result.value.map((violation) => `${shape}: ${violation}`));
      await page.screenshot({ path: path.join(this.#folder, `${name}-${shape}.png`), fullPage: true });
    }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: SHAPES.light.width, height: SHAPES.light.height });
    this.check(`${name} is accessible, in every shape`, found.length === 0, found.join('\n  '));
  }

  /** The count, in the last line; gives the exit code. */
  finish() {
    this.check('the browser had nothing to complain of', this.#complaints.length === 0, this.#complaints.join('\n  '));
    console.log(`${this.#passed} passed, ${this.#failures.length} failed, 0 skipped`);
    return this.#failures.length === 0 ? 0 : 1;
  }
}
