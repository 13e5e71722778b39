"""The label that stands for no class, in masks, losses and figures."""

IGNORE_INDEX = 255
