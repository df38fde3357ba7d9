"""What a picture is known to show: classes, values, masks."""
