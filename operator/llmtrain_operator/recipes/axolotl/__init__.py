"""Recipes of Axolotl."""
