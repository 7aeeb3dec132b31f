// Finding chats again, renaming and deleting them.

import assert from 'node:assert/strict';
import { QUESTION } from './parts.mjs';

export const historySteps = ({ url }, { page }, { ask, idle }) => [
  ['the first question titles the chat in the side bar', async () => {
    await page.getByRole('navigation', { name: 'Chats' }).getByRole('link').first().waitFor();
    assert.equal(await page.getByRole('navigation', { name: 'Chats' }).getByRole('link').count(), 1);
  }],
  ['after a reload the chat is found again, by list and by search', async () => {
    await page.goto(url);
    const chats = page.getByRole('navigation', { name: 'Chats' });
    await page.getByRole('searchbox', { name: 'Search chats' }).fill('process');
    await chats.locator('mark').first().waitFor();
    await chats.getByRole('link').first().click();
    await page.getByText(QUESTION).last().waitFor();
    await page.getByRole('button', { name: 'Clear the search' }).click();
  }],
  ['renaming a chat', async () => {
    const row = page.getByRole('navigation', { name: 'Chats' });
    await row.getByRole('button', { name: /^More for/ }).first().click();
    await page.getByRole('menuitem', { name: 'Rename' }).click();
    await page.getByRole('textbox', { name: 'Rename this chat' }).fill('Processes and threads');
    await page.keyboard.press('Enter');
    await row.getByRole('link', { name: 'Processes and threads' }).waitFor();
  }],
  ['deleting a chat after a question', async () => {
    const chats = page.getByRole('navigation', { name: 'Chats' });
    await page.goto(url);
    await ask('Name one fish.');
    await page.waitForURL(/\/c\/[^/]+$/);
    await idle();
    await chats.getByRole('button', { name: /Name one fish/ }).click();
    await page.getByRole('menuitem', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await chats.getByRole('link', { name: /Name one fish/ }).waitFor({ state: 'detached' });
    assert.equal(new URL(page.url()).pathname, '/');
    await chats.getByRole('link', { name: 'Processes and threads' }).click();
    await page.getByText(QUESTION).last().waitFor();
  }],
];
