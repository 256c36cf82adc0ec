"""What a site says of itself: releases and their history, settings, what is meant to run."""
