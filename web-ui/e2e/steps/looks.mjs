// Dark, Chinese, and small.

import assert from 'node:assert/strict';
import { ANSWER_MS_MAX, QUESTION } from './parts.mjs';

export const looksSteps = ({ url }, { page, screenshot }, { idle, ask }) => [
  ['dark mode', async () => {
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.getByRole('region', { name: 'Conversation' }).evaluate((region) => (region.scrollTop = 0));
    await screenshot('answer-dark');
    await page.emulateMedia({ colorScheme: 'light' });
    await page.getByRole('button', { name: /^Theme/ }).click();
    await page.getByRole('button', { name: /^Theme: light/ }).click();
    assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), 'dark');
    await page.getByRole('button', { name: /^Theme: dark/ }).click();
  }],
  ['Chinese, kept by the account across a reload', async () => {
    await page.getByRole('button', { name: /简体中文/ }).click();
    await page.evaluate(() => localStorage.clear());
    await page.goto(url);
    await page.getByRole('heading', { name: '今天想弄明白什么？' }).waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.lang), 'zh-CN');
    await screenshot('empty-zh');
    await ask('进程和线程有什么区别？请举例说明。');
    await page.locator('.prose').last().waitFor({ timeout: ANSWER_MS_MAX });
    await idle();
    await screenshot('answer-zh');
  }],
  ['phone width: the side bar is a drawer, nothing scrolls sideways', async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    const widest = () => Math.max(...[...document.querySelectorAll('main header, main form, main ol')].map((e) => e.getBoundingClientRect().right));
    assert.ok(await page.evaluate(widest) <= 390, 'the page is wider than the phone');
    await page.getByRole('region', { name: '对话内容' }).evaluate((region) => (region.scrollTop = 0));
    await page.waitForTimeout(300);
    await screenshot('phone-zh');
    await page.getByRole('button', { name: '打开侧边栏' }).click();
    await page.getByRole('link', { name: 'Processes and threads' }).waitFor();
    await page.waitForTimeout(300);
    await screenshot('phone-drawer-zh');
    await page.getByRole('link', { name: 'Processes and threads' }).click();
    await page.getByText(QUESTION).last().waitFor();
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.getByRole('button', { name: /English/ }).click();
  }],
];
